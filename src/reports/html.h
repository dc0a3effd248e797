// SPDX-License-Identifier: Apache-2.0
//
// The bricks of the HTML reports: escaped text, pictures inside the page, the frame with its style.
// A page loads nothing from anywhere and runs no script.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/image.h"

namespace flashomni::html {

// `text` as the content of an element or of a quoted attribute. Bytes that are not UTF-8 become
// U+FFFD, control characters (but newline and tab) too.
std::string escape(const std::string& text);

std::string base64(std::span<const uint8_t> bytes);
// <img> of a PNG; `css_class` may be empty. The picture's own size is given, so that the page does
// not move while it loads.
std::string image(std::span<const uint8_t> png, int width, int height, const std::string& alt,
                  const std::string& css_class = "");
Result<std::string> image(const Image& picture, const std::string& alt,
                          const std::string& css_class = "");

// Texts in cells, escaped; the first column to the left. Wide tables scroll inside the page.
std::string table(const std::vector<std::string>& header,
                  const std::vector<std::vector<std::string>>& rows);
// Names with values, escaped.
std::string facts(const std::vector<std::pair<std::string, std::string>>& rows);
// A heading with an anchor; `body` is HTML.
std::string section(const std::string& title, const std::string& body);
std::string details(const std::string& summary, const std::string& body, bool open = false);

// A whole page. `body` is HTML, `title` text.
std::string page(const std::string& title, const std::string& body);

}  // namespace flashomni::html
