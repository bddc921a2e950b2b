#ifndef LATHE_BASE_CONFIG_JSON_H_
#define LATHE_BASE_CONFIG_JSON_H_

// A run's configuration message as JSON, both ways.
//
//   {"training": {"learning_rate": 1e-4, "report_to": ["none"]}, "model": {"config_name": "qwen"}}
//   {"learning_rate": 1e-4, "config_name": "qwen"}      // without groups, as Hugging Face writes
//   it
//
// Functions are pure but for the message they are given.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "lathe/base/config/schema.h"

namespace lathe {

// Sets the fields of `config` that the JSON object `text` gives; the others stay. Keys are fields
// or aliases, inside their group or at the top; null is "as if not given"; a list field takes a
// list or one element; a JSON text field takes an object or a string. `source` is what messages
// call the text. Errors: InvalidArgument, one line, with source and key path: all unknown keys
// (with suggestions) or the first value of a wrong type or out of bounds. `config` is then partly
// set; do not use it.
absl::Status MergeJson(const ConfigSchema& schema, std::string_view text, std::string_view source,
                       google::protobuf::Message* config);

// The effective configuration, defaults included, in groups, indented by two: what MergeJson reads
// back to an equal message. Left out are fields without value and flags that are not implemented
// and ask for nothing.
std::string ToJson(const ConfigSchema& schema, const google::protobuf::Message& config);

// "training.learning_rate = 0.0001 (default 5e-05)" for every field that differs from its default,
// in order of declaration.
std::vector<std::string> DescribeChanges(const ConfigSchema& schema,
                                         const google::protobuf::Message& config);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_JSON_H_
