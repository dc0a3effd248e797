// SPDX-License-Identifier: Apache-2.0
//
// flashomni edit: a picture and a wish in, a picture out. The picture's tokens are appended to the
// noisy ones (the layout of FLUX.1 Kontext), so every block of the new picture can look at it.
#include "tools/commands.h"
#include "tools/draw.h"

namespace flashomni::tools {

void add_edit(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("edit", "change a picture as a prompt says");
  const auto flags = std::make_shared<DrawFlags>();
  flags->edit = true;
  flags->picture.add_image_to(*sub);
  sub->add_option(
         "--image-latents", flags->image_latents,
         "the picture as latents of the run's size, for checkpoints whose VAE does not run "
         "here (safetensors, see docs/checkpoints.md)")
      ->type_name("FILE");
  sub->add_flag(
      "--skip-reference", flags->skip_reference,
      "let the strategy skip keys and values of the picture too, which are otherwise kept");
  flags->add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return draw(*flags, line.text); }; });
}

}  // namespace flashomni::tools
