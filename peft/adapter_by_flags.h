// The adapter that --peft_type and the flags beside it ask for.
#ifndef LATHE_PEFT_ADAPTER_BY_FLAGS_H_
#define LATHE_PEFT_ADAPTER_BY_FLAGS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/peft/peft_arguments.pb.h"

namespace lathe {

// From --adapter_name_or_path's or --peft_config's file, or from the flags; none without any of
// them. Errors: what ReadLoraConfig says; InvalidArgument, naming them, for flags beside a file
// that says it all, and for those of an adapter without --peft_type, unless they are at their
// defaults.
absl::StatusOr<std::optional<LoraConfig>> AdapterByFlags(const PeftArguments& arguments);

}  // namespace lathe

#endif  // LATHE_PEFT_ADAPTER_BY_FLAGS_H_
