// LoraInjector: LoRA on those linear layers of a model that the configuration names, as the model
// is made, and which of its parameters are trained.
//
//   ABSL_ASSIGN_OR_RETURN(LoraInjector lora, LoraInjector::Create(config));
//   StageOptions options{.on_layer = [&](AdapterPoint& point) { lora.OnLayer(point); }};
//   ABSL_ASSIGN_OR_RETURN(auto stage, BuildModel(model, context, dtype, runner, options));
//   lora.Freeze(stage->parameters());
//
// Thread rule: one thread; not used any more once the model is made.
//
// Source: peft 0.21.2, tuners/tuners_utils.py inject_adapter, tuners/lora/model.py.
#ifndef LATHE_PEFT_LORA_LORA_INJECTOR_H_
#define LATHE_PEFT_LORA_LORA_INJECTOR_H_

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/layers/adapter_point.h"
#include "lathe/layers/parameter.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/peft/lora/lora_scale.h"
#include "lathe/peft/module_matching.h"

namespace lathe {

class LoraInjector {
 public:
  // `config` must have its target_modules (ResolveTargets). Errors: Unimplemented if they name the
  // head or the embedding; ModuleMatcher's and
  // LoraScale's.
  static absl::StatusOr<LoraInjector> Create(const LoraConfig& config);

  // Puts a LoraLinear on the layer if it is one that the configuration names.
  void OnLayer(AdapterPoint& point);

  // Leaves trainable what is the adapter's: its own parameters, the modules to save, and biases as
  // the configuration says. `parameters`: all of the model.
  void Freeze(absl::Span<Parameter* const> parameters);

  // Names of modules that were adapted, and of all that could have been, in model order; those of
  // modules_to_save that Freeze found.
  const std::vector<std::string>& adapted() const { return adapted_; }
  const std::vector<std::string>& seen() const { return seen_; }
  const std::vector<std::string>& saved() const { return saved_; }

 private:
  LoraInjector(LoraConfig config, ModuleMatcher matcher, LoraScale scale)
      : config_(std::move(config)), matcher_(std::move(matcher)), scale_(std::move(scale)) {}

  LoraConfig config_;
  ModuleMatcher matcher_;
  LoraScale scale_;
  std::vector<std::string> adapted_, seen_, saved_;
};

// Whether the parameter is an adapter's own, which the model without it does not have.
bool IsOwnParameter(std::string_view parameter);

// What a parameter of the model is called in adapter_model.safetensors: base_model.model.NAME, the
// adapter's name left out; a bias of one of the modules that are `adapted`, MODULE.base_layer.bias.
std::string AdapterFileName(std::string_view parameter, const std::set<std::string>& adapted);

// Errors: InvalidArgument, with the modules that there are, when none was adapted, and for one of
// modules_to_save that was not found. `adapted`, `modules`, `saved`: of the whole model.
absl::Status CheckAdapted(const LoraConfig& config, const std::vector<std::string>& adapted,
                          const std::vector<std::string>& modules,
                          const std::vector<std::string>& saved);

}  // namespace lathe

#endif  // LATHE_PEFT_LORA_LORA_INJECTOR_H_
