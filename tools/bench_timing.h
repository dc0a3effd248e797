// SPDX-License-Identifier: Apache-2.0
//
// How `flashomni bench` times its cases, and what it makes of the samples.
#pragma once

#include <functional>
#include <iosfwd>
#include <vector>

#include "tools/bench_cases.h"

namespace flashomni::tools {

// Sorts the seconds of a row and fills in its median and percentiles. REQUIRES at least one.
void fill_percentiles(BenchRow& row);
// Times all cases round-robin after one warm-up each, fills in the statistics and returns the
// device's multiply-add peak, measured between the rounds (0 where it has none). On a GPU a sample
// is the mean of several calls in a row, so that waiting for the last one weighs little.
// `bandwidth` in bytes per second limits rows with bytes. Stops early with kCancelled when `stop`
// says so.
Result<double> time_cases(Backend& backend, std::vector<BenchCase>& cases, int repeats,
                          double bandwidth, const std::function<bool()>& stop);

// The same on request, so that a script can time other programs in between without ending this one:
// after a warm-up, each line of `requests` runs every case once unmeasured and then `repeats`
// times, and is answered by a line of JSON, the milliseconds of each case as a list of lists. Ends
// with `requests`; kInvalidArgument where there was not even one.
Result<double> time_on_request(Backend& backend, std::vector<BenchCase>& cases, int repeats,
                               double bandwidth, std::istream& requests, std::ostream& answers,
                               const std::function<bool()>& stop);

// Bytes per second of a large copy on this backend (read plus write), median of a few.
Result<double> measure_bandwidth(Backend& backend);

}  // namespace flashomni::tools
