#ifndef LATHE_BASE_CONFIG_CONFIG_FILE_H_
#define LATHE_BASE_CONFIG_CONFIG_FILE_H_

// A run's configuration from a JSON or textproto file, read strictly.
//
//   training { learning_rate: 1e-4 lr_scheduler_type: "cosine" }      # run.textproto
//   {"training": {"learning_rate": 1e-4}}                              // run.json, see json.h
//
// Functions are pure but for the file read and the message they are given.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "lathe/base/config/schema.h"

namespace lathe {

// Sets in `config` what the file at `path` gives; the rest stays. The format is told by the name
// (.json, .textproto, .txtpb, .pbtxt), else by whether the text begins with '{'.
// Errors: NotFound when there is no such file; InvalidArgument, one line with the file and the key
// path or line, for whatever the file says that it must not. `config` is then partly set.
absl::Status MergeConfigFile(const ConfigSchema& schema, const std::string& path,
                             google::protobuf::Message* config);

// The textproto half, from memory. A list in the text replaces the list in `config`.
absl::Status MergeTextproto(const ConfigSchema& schema, std::string_view text,
                            std::string_view source, google::protobuf::Message* config);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_CONFIG_FILE_H_
