// A row of a chat data set as a conversation, whichever of the field's formats it is in:
//
//   {"messages": [{"role": "user", "content": "Hi"}, ...]}               OpenAI; also "tools"
//   {"conversations": [{"from": "human", "value": "Hi"}, ...]}           ShareGPT, BELLE; also
//                                                                        "system", "tools"
//   {"instruction": "Translate", "input": "chat", "output": "cat"}       Alpaca; also "system",
//                                                                        "history"
//   {"prompt": "2 + 2 =", "completion": " 4"}                            text as it is
//   {"prompt": [messages], "completion": [messages]}
//
//   ABSL_ASSIGN_OR_RETURN(const ChatRow row, ReadChatRow(json));
//
// Pure function; thread-safe.
//
// Source: the data sets' own cards; TRL 1.16's dataset formats; LLaMA-Factory's for functions.
#ifndef LATHE_DATASETS_CHAT_TEMPLATES_CHAT_ROW_H_
#define LATHE_DATASETS_CHAT_TEMPLATES_CHAT_ROW_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "lathe/datasets/chat_templates/chat_template.h"
#include "nlohmann/json.hpp"

namespace lathe {

// A prompt and its completion as they are, for no template.
struct PlainCompletion {
  std::string prompt, completion;
};

struct ChatRow {
  // Roles are system, developer, user, assistant and tool; empty for a plain completion.
  Conversation conversation;
  // So many messages at the start are a prompt: only what comes after is to be learnt. 0: all that
  // the assistant says is.
  size_t num_prompt_messages = 0;
  std::optional<PlainCompletion> plain;
};

// Errors: InvalidArgument for a row in no format or in several, a role that is not known (with
// those that are), content that is no text, a weight that is not 1,
// no message; the place is the caller's to say.
absl::StatusOr<ChatRow> ReadChatRow(const nlohmann::ordered_json& row);

}  // namespace lathe

#endif  // LATHE_DATASETS_CHAT_TEMPLATES_CHAT_ROW_H_
