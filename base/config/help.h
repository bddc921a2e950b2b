#ifndef LATHE_BASE_CONFIG_HELP_H_
#define LATHE_BASE_CONFIG_HELP_H_

// The texts behind --help and --explain. See flags.h; pure functions.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "lathe/base/config/flags.h"
#include "lathe/base/config/schema.h"

namespace lathe {

// All flags by group, or those of one group (its field name), with the values in `config` as
// defaults. Errors: InvalidArgument when there is no such group, with the groups there are.
absl::StatusOr<std::string> HelpText(const ConfigSchema& schema,
                                     const google::protobuf::Message& config,
                                     const FlagsOptions& options, std::string_view group);

// Everything there is to know about one flag.
// Errors: InvalidArgument when there is no such flag, with suggestions.
absl::StatusOr<std::string> ExplainText(const ConfigSchema& schema,
                                        const google::protobuf::Message& config,
                                        const FlagsOptions& options, std::string_view name);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_HELP_H_
