#include "lathe/trainer/report_callbacks.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lathe/base/logging.h"

namespace lathe {
namespace {

// {'loss': 2.5, 'grad_norm': 1.5, 'epoch': 0.1}: what people's scripts already parse, in Hugging
// Face's order.
std::string PythonDict(const nlohmann::json& logs) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : logs.items()) keys.push_back(key);
  std::stable_sort(keys.begin(), keys.end(), [](const std::string& a, const std::string& b) {
    const auto place = [](const std::string& key) {
      return key == "loss" ? 0 : 1 + (key == "epoch");
    };
    return place(a) < place(b);
  });
  std::string text = "{";
  for (const std::string& key : keys) {
    const nlohmann::json& value = logs[key];
    absl::StrAppend(&text, text.size() > 1 ? ", " : "", "'", key, "': ");
    if (value.is_number_float()) {
      char number[32];
      std::snprintf(number, sizeof(number), "%.4g", value.get<double>());
      text += number;
    } else {
      text += value.dump();
    }
  }
  return text + "}";
}

}  // namespace

ConsoleCallback::~ConsoleCallback() { SetAroundLogLine(nullptr); }

absl::Status ConsoleCallback::OnTrainBegin(const TrainerState& state, TrainerControl&) {
  bar_ = std::make_unique<ProgressBar>(ProgressBarOptions{
      .total_steps = state.max_steps, .initial_step = state.global_step, .disabled = !show_bar_});
  SetAroundLogLine([this](bool before) { before ? bar_->Hide() : bar_->Show(); });
  return absl::OkStatus();
}

absl::Status ConsoleCallback::OnStepEnd(const TrainerState& state, const StepInfo& info,
                                        TrainerControl&) {
  ProgressUpdate update{.step = state.global_step, .loss = info.loss};
  if (info.tokens_per_second > 0) {
    update.tokens_per_second = info.tokens_per_second;
    if (peak_flops_ > 0)
      update.utilization = info.tokens_per_second * flops_per_token_ / peak_flops_;
  }
  bar_->Update(update);
  return absl::OkStatus();
}

absl::Status ConsoleCallback::OnLog(const TrainerState&, const nlohmann::json& logs) {
  // An evaluation outside training has no bar.
  if (bar_) bar_->Hide();
  std::printf("%s\n", PythonDict(logs).c_str());
  std::fflush(stdout);
  if (bar_) bar_->Show();
  return absl::OkStatus();
}

absl::Status ConsoleCallback::OnTrainEnd(const TrainerState&) {
  bar_->Finish();
  return absl::OkStatus();
}

absl::Status CommunicationCallback::OnLog(const TrainerState&, const nlohmann::json&) {
  std::string text;
  for (const ParallelContext::Traffic& traffic : context_.MeasuredTraffic()) {
    absl::StrAppendFormat(&text, "%s %s %.6g MB in %.2f s", text.empty() ? "" : ",", traffic.group,
                          1e-6 * static_cast<double>(traffic.bytes), traffic.seconds);
  }
  LOG(INFO) << "Communication: sent" << (text.empty() ? " nothing" : text);
  return absl::OkStatus();
}

absl::Status TensorBoardCallback::Open(const TrainerState& state) {
  ABSL_ASSIGN_OR_RETURN(writer_, TensorBoardWriter::Create(directory_));
  if (state.global_step > 0) {
    ABSL_RETURN_IF_ERROR(writer_->AddRestart(state.global_step + 1));
  }
  return writer_->AddText(0, "args", configuration_);
}

absl::Status TensorBoardCallback::OnTrainBegin(const TrainerState& state, TrainerControl&) {
  return Open(state);
}

absl::Status TensorBoardCallback::OnLog(const TrainerState& state, const nlohmann::json& logs) {
  if (!writer_) {
    ABSL_RETURN_IF_ERROR(Open(state));
  }
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [key, value] : logs.items()) {
    if (value.is_number()) scalars.emplace_back(TensorBoardTag(key), value.get<double>());
  }
  return writer_->AddScalars(state.global_step, scalars);
}

}  // namespace lathe
