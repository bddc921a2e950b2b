// Which parameters weight decay touches.
#ifndef LATHE_ZERO_WEIGHT_DECAY_H_
#define LATHE_ZERO_WEIGHT_DECAY_H_

#include <string_view>

namespace lathe {

// Hugging Face's rule: not where the lower-cased full name contains "bias", "layernorm", "rmsnorm",
// a component "norm", or a component that ends in "_norm". Embeddings and the head do decay.
// Source: transformers trainer.py, get_decay_parameter_names.
bool HasWeightDecay(std::string_view parameter_name);

}  // namespace lathe

#endif  // LATHE_ZERO_WEIGHT_DECAY_H_
