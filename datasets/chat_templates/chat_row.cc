#include "lathe/datasets/chat_templates/chat_row.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/strict_json.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// What a data set calls who speaks, and what a template does.
const std::map<std::string, const char*>& Roles() {
  static const auto& roles = *new std::map<std::string, const char*>{
      {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"developer", "developer"},
      {"function", "tool"},       {"function_call", ""},    {"gpt", "assistant"},
      {"human", "user"},          {"model", "assistant"},   {"observation", "tool"},
      {"system", "system"},       {"tool", "tool"},         {"user", "user"},
  };
  return roles;
}

class RowReader {
 public:
  explicit RowReader(const Json& row) : row_(row) {}

  absl::StatusOr<ChatRow> Read() {
    if (!row_.is_object()) return Wrong("expected a JSON object");
    std::vector<std::string> formats;
    for (const char* key : {"messages", "conversations", "instruction", "prompt"}) {
      if (row_.contains(key)) formats.push_back(key);
    }
    if (formats.size() > 1) {
      return Wrong(absl::StrCat("has ", absl::StrJoin(formats, " and "),
                                ", which are different formats; keep one"));
    }
    if (formats.empty()) {
      return Wrong(absl::StrCat(
          "no chat: expected messages, conversations, instruction and output, or prompt and "
          "completion; it has ",
          row_.empty() ? "nothing" : absl::StrJoin(Keys(), ", ")));
    }
    ABSL_RETURN_IF_ERROR(ReadTools());
    if (formats[0] == "messages" || formats[0] == "conversations") {
      ABSL_RETURN_IF_ERROR(ReadSystem());
      ABSL_RETURN_IF_ERROR(ReadMessages(row_[formats[0]], formats[0]));
    } else if (formats[0] == "instruction") {
      ABSL_RETURN_IF_ERROR(ReadAlpaca());
    } else {
      ABSL_RETURN_IF_ERROR(ReadPromptAndCompletion());
    }
    if (!result_.plain && Messages().empty()) return Wrong(formats[0] + " has no message");
    return std::move(result_);
  }

 private:
  static absl::Status Wrong(std::string_view what) { return absl::InvalidArgumentError(what); }

  std::vector<std::string> Keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : row_.items()) keys.push_back(key);
    return keys;
  }

  Json& Messages() { return result_.conversation.messages; }

  void Say(const char* role, const std::string& content) {
    Messages().push_back({{"role", role}, {"content", content}});
  }

  // An optional text beside the messages; "" counts as none.
  absl::StatusOr<std::string> Text(const char* key, bool required = false) const {
    if (!row_.contains(key) || row_[key].is_null()) {
      if (required) return Wrong(absl::StrCat(key, " is missing"));
      return std::string();
    }
    if (!row_[key].is_string()) return Wrong(absl::StrCat(key, ": expected a text"));
    return row_[key].get<std::string>();
  }

  absl::Status ReadSystem() {
    ABSL_ASSIGN_OR_RETURN(const std::string system, Text("system"));
    if (!system.empty()) Say("system", system);
    return absl::OkStatus();
  }

  // What JSON within a text says; null for what is none, or nested beyond what can be walked.
  static Json ParsedText(const std::string& text) {
    return ParseStrictJson(text, "text").value_or(nullptr);
  }

  // A list, or a text that holds one.
  absl::Status ReadTools() {
    if (!row_.contains("tools") || row_["tools"].is_null() || row_["tools"] == "") {
      return absl::OkStatus();
    }
    Json tools = row_["tools"];
    if (tools.is_string()) {
      tools = ParsedText(tools.get_ref<const std::string&>());
    }
    if (!tools.is_array()) return Wrong("tools: expected a list of functions, or one as a text");
    if (!tools.empty()) result_.conversation.tools = std::move(tools);
    return absl::OkStatus();
  }

  absl::Status ReadMessages(const Json& messages, const std::string& key) {
    if (!messages.is_array()) return Wrong(key + ": expected a list of messages");
    for (size_t i = 0; i < messages.size(); ++i) {
      ABSL_RETURN_IF_ERROR(ReadMessage(messages[i], absl::StrCat(key, "[", i, "]")));
    }
    return absl::OkStatus();
  }

  absl::Status ReadMessage(const Json& message, const std::string& path) {
    if (!message.is_object()) return Wrong(path + ": expected an object");
    const bool share_gpt = message.contains("from");
    const char* role_key = share_gpt ? "from" : "role";
    const char* content_key = share_gpt ? "value" : "content";
    if (!message.contains(role_key) || !message[role_key].is_string()) {
      return Wrong(path + ": expected role and content, or from and value");
    }
    const std::string said = message[role_key];
    const auto role = Roles().find(said);
    if (role == Roles().end()) {
      return Wrong(absl::StrCat(
          path, ": ", role_key, " '", said, "' is not known; there are ",
          absl::StrJoin(Roles(), ", ",
                        [](std::string* out, const auto& known) { *out += known.first; })));
    }
    const Json& content = message.contains(content_key) ? message[content_key] : Json(nullptr);
    const bool calls = message.contains("tool_calls") && !message["tool_calls"].is_null();
    if (!content.is_string() && !(content.is_null() && calls)) {
      return Wrong(absl::StrCat(path, ": ", content_key, ": expected a text"));
    }
    // OpenAI's way to leave an answer out of what is learnt; ignored, it would be learnt.
    if (message.contains("weight") && message["weight"] != 1) {
      return Wrong(path +
                   ": weight other than 1 is not supported; leave it out, or end the "
                   "conversation before the message");
    }
    if (said == "function_call") return ReadCall(content, path);
    // All else that it says is the template's business.
    Json out = {{"role", role->second}, {"content", content}};
    for (const auto& [key, value] : message.items()) {
      if (key != role_key && key != content_key) out[key] = value;
    }
    Messages().push_back(std::move(out));
    return absl::OkStatus();
  }

  // {"name": ..., "arguments": {...}} as a text, or a list of such.
  absl::Status ReadCall(const Json& content, const std::string& path) {
    Json calls = ParsedText(content.get_ref<const std::string&>());
    if (calls.is_object()) calls = Json::array({calls});
    Json tool_calls = Json::array();
    const auto is_call = [](const Json& c) { return c.is_object() && c.contains("name"); };
    if (!calls.is_array() || !std::all_of(calls.begin(), calls.end(), is_call)) {
      return Wrong(path + ": expected a function's name and arguments as JSON");
    }
    for (Json& call : calls) tool_calls.push_back({{"type", "function"}, {"function", call}});
    Messages().push_back(
        {{"role", "assistant"}, {"content", ""}, {"tool_calls", std::move(tool_calls)}});
    return absl::OkStatus();
  }

  absl::Status ReadAlpaca() {
    ABSL_RETURN_IF_ERROR(ReadSystem());
    if (row_.contains("history") && !row_["history"].is_null()) {
      const Json& history = row_["history"];
      const auto is_turn = [](const Json& turn) {
        return turn.is_array() && turn.size() == 2 && turn[0].is_string() && turn[1].is_string();
      };
      if (!history.is_array() || !std::all_of(history.begin(), history.end(), is_turn)) {
        return Wrong("history: expected a list of [question, answer]");
      }
      for (const Json& turn : history) {
        Say("user", turn[0]);
        Say("assistant", turn[1]);
      }
    }
    ABSL_ASSIGN_OR_RETURN(const std::string instruction, Text("instruction", /*required=*/true));
    ABSL_ASSIGN_OR_RETURN(const std::string input, Text("input"));
    ABSL_ASSIGN_OR_RETURN(const std::string output, Text("output", /*required=*/true));
    Say("user", input.empty() ? instruction : absl::StrCat(instruction, "\n", input));
    Say("assistant", output);
    return absl::OkStatus();
  }

  absl::Status ReadPromptAndCompletion() {
    if (!row_.contains("completion")) return Wrong("prompt without completion");
    const Json &prompt = row_["prompt"], &completion = row_["completion"];
    if (prompt.is_string() && completion.is_string()) {
      result_.plain = PlainCompletion{prompt, completion};
      return absl::OkStatus();
    }
    if (!prompt.is_array() || !completion.is_array()) {
      return Wrong("prompt and completion: expected two texts, or two lists of messages");
    }
    ABSL_RETURN_IF_ERROR(ReadMessages(prompt, "prompt"));
    result_.num_prompt_messages = Messages().size();
    if (completion.empty()) return Wrong("completion has no message");
    return ReadMessages(completion, "completion");
  }

  const Json& row_;
  ChatRow result_;
};

}  // namespace

absl::StatusOr<ChatRow> ReadChatRow(const Json& row) { return RowReader(row).Read(); }

}  // namespace lathe
