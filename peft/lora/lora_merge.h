// An adapter put into the weights of its model, so that nothing but the model is needed.
//
//   ABSL_ASSIGN_OR_RETURN(const ModelFiles base, ModelFiles::Open("SmolLM2-135M"));
//   ABSL_ASSIGN_OR_RETURN(const ModelFiles adapter, ModelFiles::Open("out", "adapter_model"));
//   ABSL_ASSIGN_OR_RETURN(const MergedModel merged, MergeLora(base, adapter, config));
//   SaveTensors(*directory, "model", merged.tensors);
//
// Of any architecture: what is adapted is what the adapter's file has. Pure function; thread-safe.
//
// Source: peft 0.21.2 tuners/lora/layer.py, Linear.merge.
#ifndef LATHE_PEFT_LORA_LORA_MERGE_H_
#define LATHE_PEFT_LORA_LORA_MERGE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/peft/lora/lora_config.h"

namespace lathe {

struct MergedModel {
  // All of the model's, in its dtypes. Those that the adapter does not touch are views of `base`,
  // which must outlive them.
  std::vector<NamedTensor> tensors;
  int num_merged = 0;    // weights to which a product was added
  int num_replaced = 0;  // tensors that the adapter has whole: modules to save, biases
};

// W + (alpha / r) B A, in fp32 (fp64 for fp64) and rounded once. Errors: InvalidArgument, naming
// the tensor, for one that has no place in the model, an A without its B, shapes that do not fit, a
// rank other than the configuration's, and a sum that is not finite; what reading the files says.
absl::StatusOr<MergedModel> MergeLora(const ModelFiles& base, const ModelFiles& adapter,
                                      const LoraConfig& config);

}  // namespace lathe

#endif  // LATHE_PEFT_LORA_LORA_MERGE_H_
