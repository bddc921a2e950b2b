#include "lathe/trainer/trainer_state.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/python_json.h"
#include "lathe/base/strict_json.h"

namespace lathe {
namespace {

template <typename T>
nlohmann::json OrNull(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

// Python writes, and reads, the words NaN, Infinity and -Infinity as numbers, which JSON does not
// have.
constexpr std::string_view kNonFiniteWords[] = {"NaN", "-Infinity", "Infinity"};
constexpr std::string_view kMark = "\u0001";

// Puts such words, where they stand outside of strings, into marked strings.
std::string QuoteNonFinite(std::string_view text) {
  std::string quoted;
  bool in_string = false;
  for (size_t at = 0; at < text.size();) {
    if (in_string && text[at] == '\\' && at + 1 < text.size()) {
      quoted += text.substr(at, 2);
      at += 2;
      continue;
    }
    if (text[at] == '"') in_string = !in_string;
    std::string_view word;
    for (std::string_view candidate : kNonFiniteWords) {
      if (!in_string && absl::StartsWith(text.substr(at), candidate)) word = candidate;
    }
    if (word.empty()) {
      quoted += text[at++];
    } else {
      absl::StrAppend(&quoted, "\"\\u0001", word, "\"");
      at += word.size();
    }
  }
  return quoted;
}

// Turns the marked strings of a parsed value back into numbers.
void RestoreNonFinite(nlohmann::json& value) {
  if (value.is_structured()) {
    for (nlohmann::json& element : value) RestoreNonFinite(element);
  } else if (value.is_string() && absl::StartsWith(value.get_ref<const std::string&>(), kMark)) {
    const std::string word = value.get<std::string>().substr(kMark.size());
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    value = word == "NaN"        ? std::numeric_limits<double>::quiet_NaN()
            : word == "Infinity" ? kInfinity
                                 : -kInfinity;
  }
}

// Reads fields out of one JSON object, and remembers the first that does not fit.
class Reader {
 public:
  Reader(const nlohmann::json& json, std::string_view source) : json_(json), source_(source) {}

  void Read(const char* key, bool required, int64_t* value) {
    // Hugging Face writes a count as 1.0 when it came from a float flag.
    const nlohmann::json* found = Find(key, required);
    if (found == nullptr) return;
    if (found->is_number_integer()) {
      *value = found->get<int64_t>();
    } else if (found->is_number_float() && std::abs(found->get<double>()) < 0x1p53 &&
               found->get<double>() == std::trunc(found->get<double>())) {
      *value = static_cast<int64_t>(found->get<double>());
    } else {
      Wrong(key, "an integer");
    }
  }

  void Read(const char* key, bool required, double* value) {
    const nlohmann::json* found = Find(key, required);
    if (found == nullptr) return;
    if (!found->is_number()) return Wrong(key, "a number");
    *value = found->get<double>();
  }

  void Read(const char* key, bool required, bool* value) {
    const nlohmann::json* found = Find(key, required);
    if (found == nullptr) return;
    if (!found->is_boolean()) return Wrong(key, "true or false");
    *value = found->get<bool>();
  }

  void Read(const char* key, bool required, std::string* value) {
    const nlohmann::json* found = Find(key, required);
    if (found == nullptr) return;
    if (!found->is_string()) return Wrong(key, "a string");
    *value = found->get<std::string>();
  }

  template <typename T>
  void Read(const char* key, std::optional<T>* value) {
    if (Find(key, false) == nullptr) return;
    T present{};
    Read(key, false, &present);
    *value = std::move(present);
  }

  void ReadHistory(std::vector<nlohmann::json>* history) {
    const nlohmann::json* found = Find("log_history", true);
    if (found == nullptr) return;
    if (!found->is_array()) return Wrong("log_history", "a list");
    for (const nlohmann::json& entry : *found) {
      if (!entry.is_object()) return Wrong("log_history", "a list of objects");
      history->push_back(entry);
    }
  }

  void ReadObject(const char* key, nlohmann::json* value) {
    const nlohmann::json* found = Find(key, false);
    if (found == nullptr) return;
    if (!found->is_object()) return Wrong(key, "an object");
    *value = *found;
  }

  const absl::Status& status() const { return status_; }

 private:
  // nullptr for an absent or null value.
  const nlohmann::json* Find(const char* key, bool required) {
    const auto found = json_.find(key);
    if (found != json_.end() && !found->is_null()) return &*found;
    if (required && status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", key, " is missing"));
    }
    return nullptr;
  }

  void Wrong(const char* key, std::string_view expected) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", key, ": expected ", expected,
                                                      ", got ", json_[key].dump().substr(0, 60)));
  }

  const nlohmann::json& json_;
  const std::string_view source_;
  absl::Status status_;
};

}  // namespace

std::string TrainerState::ToJson() const {
  nlohmann::json json;
  json["best_global_step"] = OrNull(best_global_step);
  json["best_metric"] = OrNull(best_metric);
  json["best_model_checkpoint"] = OrNull(best_model_checkpoint);
  json["epoch"] = epoch;
  json["eval_steps"] = eval_steps;
  json["global_step"] = global_step;
  // Parameter search is no part of Lathe; the keys are Hugging Face's.
  json["is_hyper_param_search"] = false;
  json["is_local_process_zero"] = is_local_process_zero;
  json["is_world_process_zero"] = is_world_process_zero;
  json["log_history"] = log_history;
  json["logging_steps"] = logging_steps;
  json["max_steps"] = max_steps;
  json["num_input_tokens_seen"] = num_input_tokens_seen;
  json["num_train_epochs"] = num_train_epochs;
  json["save_steps"] = save_steps;
  json["stateful_callbacks"] = stateful_callbacks;
  json["total_flos"] = total_flos;
  json["train_batch_size"] = OrNull(train_batch_size);
  json["trial_name"] = nullptr;
  json["trial_params"] = nullptr;
  return DumpPythonJson(json, 2) + "\n";
}

absl::StatusOr<TrainerState> TrainerState::FromJson(std::string_view text,
                                                    std::string_view source) {
  ABSL_ASSIGN_OR_RETURN(nlohmann::json json, ParseStrictJson(QuoteNonFinite(text), source));
  RestoreNonFinite(json);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": expected a JSON object"));
  }
  TrainerState state;
  Reader reader(json, source);
  reader.Read("epoch", true, &state.epoch);
  reader.Read("global_step", true, &state.global_step);
  reader.ReadHistory(&state.log_history);
  reader.Read("max_steps", false, &state.max_steps);
  reader.Read("num_train_epochs", false, &state.num_train_epochs);
  reader.Read("logging_steps", false, &state.logging_steps);
  reader.Read("eval_steps", false, &state.eval_steps);
  reader.Read("save_steps", false, &state.save_steps);
  reader.Read("train_batch_size", &state.train_batch_size);
  reader.Read("num_input_tokens_seen", false, &state.num_input_tokens_seen);
  reader.Read("total_flos", false, &state.total_flos);
  reader.Read("best_metric", &state.best_metric);
  reader.Read("best_global_step", &state.best_global_step);
  reader.Read("best_model_checkpoint", &state.best_model_checkpoint);
  reader.Read("is_local_process_zero", false, &state.is_local_process_zero);
  reader.Read("is_world_process_zero", false, &state.is_world_process_zero);
  reader.ReadObject("stateful_callbacks", &state.stateful_callbacks);
  ABSL_RETURN_IF_ERROR(reader.status());
  return state;
}

std::string DifferentArguments(const TrainerState& run, const TrainerState& checkpoint) {
  std::vector<std::string> differences;
  const auto compare = [&](const char* name, int64_t mine, int64_t saved) {
    if (mine == saved) return;
    differences.push_back(absl::StrCat(name, " is ", mine, ", was ", saved));
  };
  compare("logging_steps", run.logging_steps, checkpoint.logging_steps);
  compare("eval_steps", run.eval_steps, checkpoint.eval_steps);
  compare("save_steps", run.save_steps, checkpoint.save_steps);
  if (run.train_batch_size && checkpoint.train_batch_size) {
    compare("train_batch_size", *run.train_batch_size, *checkpoint.train_batch_size);
  }
  return absl::StrJoin(differences, "; ");
}

}  // namespace lathe
