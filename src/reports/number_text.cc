// SPDX-License-Identifier: Apache-2.0
#include "reports/number_text.h"

#include <cmath>
#include <cstdio>

namespace flashomni {

std::string fixed(double x, int decimals) {
  if (std::isnan(x)) return "-";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, x);
  return text;
}

std::string percent(double share) {
  return fixed(100 * share, 1) + " %";
}

std::string mebibytes(size_t bytes) {
  return fixed(double(bytes) / double(1 << 20), 1);
}

std::vector<double> round_ticks(double low, double high, int count) {
  std::vector<double> out;
  if (!(high > low) || count < 1) return out;
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power * 10;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) {
    out.push_back(k * step + 0.0);  // + 0.0: no negative zero
  }
  return out;
}

}  // namespace flashomni
