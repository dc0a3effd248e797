// SPDX-License-Identifier: Apache-2.0
//
// The bricks of the HTML reports: hostile text stays text, charts hold their numbers.
#include "reports/html.h"

#include <gtest/gtest.h>

#include "io/image.h"
#include "reports/html_charts.h"
#include "reports/html_sections.h"
#include "reports/run_detail.h"

namespace flashomni {
namespace {

TEST(Html, EscapesWhatMarkupWouldBe) {
  EXPECT_EQ(html::escape("<script>alert('x')</script> & \"y\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
  EXPECT_EQ(html::escape("für 猫 🐱\tend"), "für 猫 🐱\tend");
}

TEST(Html, WhatIsNoTextIsReplaced) {
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(html::escape(std::string("a\0b", 3)), "a" + bad + "b");
  EXPECT_EQ(html::escape("\x1b[31m"), bad + "[31m");
  EXPECT_EQ(html::escape("\xff"), bad);
  EXPECT_EQ(html::escape("\xc0\xaf"), bad + bad) << "an overlong slash";
  EXPECT_EQ(html::escape("\xed\xa0\x80"), bad + bad + bad) << "half of a surrogate pair";
  EXPECT_EQ(html::escape("ab\xe7\x8c"), "ab" + bad + bad) << "cut off";
  EXPECT_EQ(html::escape("\xf4\x90\x80\x80"), bad + bad + bad + bad) << "beyond U+10FFFF";
}

// RFC 4648, section 10.
TEST(Html, Base64) {
  const auto of = [](const std::string& s) {
    return html::base64({reinterpret_cast<const uint8_t*>(s.data()), s.size()});
  };
  EXPECT_EQ(of(""), "");
  EXPECT_EQ(of("f"), "Zg==");
  EXPECT_EQ(of("fo"), "Zm8=");
  EXPECT_EQ(of("foo"), "Zm9v");
  EXPECT_EQ(of("foobar"), "Zm9vYmFy");
  EXPECT_EQ(of("\xff\xfe\xfd"), "//79");
}

TEST(Html, TextArrivesEscapedEverywhere) {
  const std::string hostile = "\"><img src=x onerror=alert(1)>";
  for (const std::string& out :
       {html::table({hostile}, {{hostile}}), html::facts({{hostile, hostile}}),
        html::section(hostile, ""), html::details(hostile, ""), html::page(hostile, ""),
        html::fallbacks({{hostile, hostile, 2}}), html::config({hostile, hostile, {}}),
        *html::image(Image{1, 1, {1, 2, 3}}, hostile, hostile)}) {
    EXPECT_EQ(out.find("<img src=x"), std::string::npos) << out;
    EXPECT_NE(out.find("&gt;&lt;img src=x"), std::string::npos) << out;
  }
}

RunDetail detail() {
  RunDetail d;
  d.layers = {"a<b", "c"};
  d.streams = 2;
  d.steps = {{"update", 0.5}, {"dispatch", 0.25}};
  d.kinds = {"uuuu", "sdrs"};
  d.sparsity = {{0, 0, 0, 0}, {0.5, 0, 1, 0.25}};
  d.memory = {{"symbols", 1 << 20}};
  return d;
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(Html, TheHeatMapHasACellForEveryStepLayerAndStream) {
  const std::string map = html::sparsity_heat_map(detail());
  EXPECT_EQ(count(map, "<title>"), 2u * 2 * 2);
  EXPECT_NE(map.find("step 1, layer 0 (a&lt;b), stream 1: reused whole, 100.0 % left out"),
            std::string::npos)
      << map;
  EXPECT_NE(map.find("fill-opacity=\"0.25\""), std::string::npos);
  const std::string bars = html::step_bars(detail());
  EXPECT_EQ(count(bars, "<title>"), 2u);
  EXPECT_NE(bars.find("step 1 (dispatch): 0.250 s"), std::string::npos) << bars;
}

TEST(Html, ScatterJoinsTheFront) {
  html::Scatter plot{
      "seconds", "PSNR", {{"a", {{1, 30, "p"}, {2, 40, "q"}, {2, 35, "<r>"}}, {0, 1}}}, 4};
  const std::string svg = html::scatter(plot);
  EXPECT_EQ(count(svg, "<circle"), 3u);
  EXPECT_EQ(count(svg, "<path"), 1u);
  EXPECT_NE(svg.find("&lt;r&gt;"), std::string::npos);
  EXPECT_EQ(html::scatter({}).find("<svg"), std::string::npos);
}

TEST(RunDetail, JsonRoundTripAndRefusals) {
  const nlohmann::json j = to_json(detail());
  auto back = parse_detail(j, "d");
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(to_json(*back), j);
  EXPECT_TRUE(parse_detail(nullptr, "d")->empty());
  nlohmann::json broken = j;
  broken["steps"][1]["layers"] = "s";
  EXPECT_EQ(parse_detail(broken, "d").status().code(), StatusCode::kCorruptFile);
  broken = j;
  broken["steps"] = 3;
  EXPECT_EQ(parse_detail(broken, "d").status().code(), StatusCode::kCorruptFile);
  EXPECT_EQ(parse_detail("x", "d").status().code(), StatusCode::kCorruptFile);
}

TEST(Html, SymbolMapsOfEveryHead) {
  SymbolSnapshot s{3, 0, 0, SparseSymbols({1, 2, 128, 128, 64, 64})};
  SymbolSnapshot later = s;
  later.step = 7;
  later.symbols.set_c(0, 1, 0, false);
  later.symbols.repair();
  auto maps = html::symbol_maps({s, later}, {"layer"});
  ASSERT_TRUE(maps.ok()) << maps.status().to_string();
  EXPECT_EQ(count(*maps, "<img"), 4u);
  EXPECT_NE(maps->find("head 1: 50.0 % left out, 50.0 % of the rows cached"), std::string::npos);
  EXPECT_NE(maps->find("Update at step 3"), std::string::npos);
  EXPECT_EQ(maps->find("Update at step 7"), std::string::npos) << "that is the last one";
}

}  // namespace
}  // namespace flashomni
