#include "lathe/trainer/checkpointer.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/base/read_file.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/checkpoint/model_files.h"

namespace lathe {
RankGroup MakeRankGroup(const Communicator& group) {
  RankGroup ranks{.rank = group.rank(), .num_ranks = group.size()};
  if (group.size() == 1) return ranks;
  ranks.all_gather = [&group](std::string mine) {
    const at::Tensor sizes =
        group.AllGather(at::full({1}, static_cast<int64_t>(mine.size()), at::kLong)).view({-1});
    const int64_t width = std::max<int64_t>(1, sizes.max().item().toLong());
    at::Tensor padded = at::zeros({width}, at::kByte);
    std::memcpy(padded.data_ptr<uint8_t>(), mine.data(), mine.size());
    const at::Tensor all = group.AllGather(padded);
    std::vector<std::string> texts;
    for (int rank = 0; rank < group.size(); ++rank) {
      texts.emplace_back(reinterpret_cast<const char*>(all[rank].data_ptr<uint8_t>()),
                         sizes[rank].item().toLong());
    }
    return texts;
  };
  return ranks;
}

Checkpointer::Checkpointer(std::string output_dir, std::map<std::string, std::string> model_files,
                           at::ScalarType weights_dtype, int64_t save_total_limit,
                           ZeroOptimizer& optimizer, const ParallelContext& context)
    : output_dir_(std::move(output_dir)),
      model_files_(std::move(model_files)),
      weights_dtype_(weights_dtype),
      save_total_limit_(save_total_limit),
      optimizer_(optimizer),
      context_(context) {}

absl::Status Checkpointer::WriteModel(AtomicDirectory& directory) const {
  ABSL_RETURN_IF_ERROR(SaveTensors(directory, "model", optimizer_.Weights(weights_dtype_)));
  if (context_.rank() == 0) {
    for (const auto& [name, bytes] : model_files_) directory.WriteFile(name, bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Checkpointer::Save(const TrainerState& state, const LoopState& loop) {
  BeginPhase(Phase::kSave, state.global_step);
  const std::string name = CheckpointName(state.global_step);
  ABSL_ASSIGN_OR_RETURN(
      std::unique_ptr<AtomicDirectory> directory,
      AtomicDirectory::Create(output_dir_, name, MakeRankGroup(context_.World())));
  ABSL_RETURN_IF_ERROR(WriteModel(*directory));
  ABSL_RETURN_IF_ERROR(SaveTensors(*directory, "optimizer", optimizer_.States()));
  if (context_.rank() == 0) {
    directory->WriteFile("trainer_state.json", state.ToJson());
    directory->WriteFile("lathe_state.json", loop.ToJson());
  }
  ABSL_RETURN_IF_ERROR(directory->Commit());
  absl::Status rotated;
  if (context_.rank() == 0) {
    std::vector<std::string> protect = {name};
    if (state.best_model_checkpoint) protect.push_back(*state.best_model_checkpoint);
    rotated = RotateCheckpoints(output_dir_, save_total_limit_, protect);
  }
  ABSL_RETURN_IF_ERROR(MakeRankGroup(context_.World()).Agree(rotated));
  return absl::StrCat(output_dir_, "/", name);
}

LoadOptions Checkpointer::OthersTensors(absl::Span<const NamedTensor> mine) const {
  const RankGroup stages = MakeRankGroup(context_.Group({"pp"}));
  return {.surplus_ok = [names = NamesOnAllRanks(stages, mine)](std::string_view name) {
    return names.contains(name);
  }};
}

absl::Status Checkpointer::LoadMyWeights(const std::string& checkpoint,
                                         const LoadOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const ModelFiles weights, ModelFiles::Open(checkpoint));
  return LoadTensors(weights, optimizer_.Weights(weights_dtype_), options);
}

absl::Status Checkpointer::LoadMine(const std::string& checkpoint, const LoadOptions& weights,
                                    const LoadOptions& states, TrainerState* state,
                                    LoopState* loop) {
  const std::string state_file = checkpoint + "/trainer_state.json";
  const std::string loop_file = checkpoint + "/lathe_state.json";
  ABSL_ASSIGN_OR_RETURN(const std::string state_text, ReadFile(state_file));
  ABSL_ASSIGN_OR_RETURN(*state, TrainerState::FromJson(state_text, state_file));
  ABSL_ASSIGN_OR_RETURN(const std::string loop_text, ReadFile(loop_file));
  ABSL_ASSIGN_OR_RETURN(*loop, LoopState::FromJson(loop_text, loop_file));
  ABSL_RETURN_IF_ERROR(LoadMyWeights(checkpoint, weights));
  // After the weights: where the optimizer has masters, they say more than the saved weights.
  ABSL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(checkpoint, "optimizer"));
  return LoadTensors(files, optimizer_.States(), states);
}

absl::Status Checkpointer::Load(const std::string& checkpoint, TrainerState* state,
                                LoopState* loop) {
  const LoadOptions weights = OthersTensors(optimizer_.Weights(weights_dtype_));
  const LoadOptions states = OthersTensors(optimizer_.States());
  // A rank that cannot read must not leave the others waiting in the first step.
  ABSL_RETURN_IF_ERROR(
      MakeRankGroup(context_.World()).Agree(LoadMine(checkpoint, weights, states, state, loop)));
  optimizer_.AfterLoad();
  return absl::OkStatus();
}

absl::Status Checkpointer::LoadWeights(const std::string& checkpoint) {
  const LoadOptions weights = OthersTensors(optimizer_.Weights(weights_dtype_));
  ABSL_RETURN_IF_ERROR(MakeRankGroup(context_.World()).Agree(LoadMyWeights(checkpoint, weights)));
  optimizer_.AfterLoad();
  return absl::OkStatus();
}

absl::Status Checkpointer::RemoveOthers(const std::string& checkpoint) {
  absl::Status removed;
  if (context_.rank() == 0) removed = RemoveOtherCheckpoints(output_dir_, checkpoint);
  return MakeRankGroup(context_.World()).Agree(removed);
}

absl::Status Checkpointer::SaveModel(const std::map<std::string, std::string>& extra_files) {
  BeginPhase(Phase::kSave);
  ABSL_ASSIGN_OR_RETURN(
      std::unique_ptr<AtomicDirectory> directory,
      AtomicDirectory::Create(output_dir_, "model", MakeRankGroup(context_.World())));
  ABSL_RETURN_IF_ERROR(WriteModel(*directory));
  if (context_.rank() == 0) {
    for (const auto& [name, bytes] : extra_files) directory->WriteFile(name, bytes);
  }
  return directory->CommitIntoParent();
}

}  // namespace lathe
