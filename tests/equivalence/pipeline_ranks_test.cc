// A pipeline trains as one process does, whatever its ranks, schedule and cut, through the real
// Trainer in fp64: losses, evaluation, gradients and weights. What it saves, one process resumes.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/parameter.h"
#include "lathe/pipeline_parallel/actions.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

ProcessMesh Mesh(int tp, int dp, int pp) {
  return *ProcessMesh::Create({{"tp", tp}, {"dp", dp}, {"pp", pp}});
}

// Runs `training` on the mesh and compares every rank with `one`; all of `one`'s weights must be
// somewhere, and where two ranks have the same one, it must be the same to the bit.
void ExpectEqual(const ProcessMesh& mesh, const SmallTraining& training, const Outcome& one,
                 const std::string& what) {
  std::mutex mutex;
  std::map<std::string, at::Tensor> seen;  // of the whole tensors
  Differences worst;
  RunThreadRanks(mesh, [&](const ParallelContext& rank) {
    const Outcome mine = TrainSmall(rank, training);
    const Differences d = Difference(mine, one);
    std::lock_guard<std::mutex> lock(mutex);
    // The bar of the project.
    EXPECT_LT(d.losses, 1e-10) << what;
    EXPECT_LT(d.grad_norms, 1e-10) << what;
    EXPECT_LT(d.gradients, 1e-10) << what;
    EXPECT_LT(d.weights, 1e-10) << what;
    worst = {std::max(worst.losses, d.losses), std::max(worst.grad_norms, d.grad_norms),
             std::max(worst.gradients, d.gradients), std::max(worst.weights, d.weights)};
    for (const auto& [name, parts] : mine.weights) {
      const auto [it, is_new] = seen.emplace(name, parts.at(0).view);
      if (!is_new && mesh.size("tp") == 1) {
        EXPECT_TRUE(at::equal(it->second, parts.at(0).view)) << what << " " << name;
      }
    }
  });
  EXPECT_EQ(seen.size(), one.weights.size()) << what;
  std::printf("%s: losses %.2g, norms %.2g, gradients %.2g, weights %.2g\n", what.c_str(),
              worst.losses, worst.grad_norms, worst.gradients, worst.weights);
}

class PipelineRanksTest : public testing::TestWithParam<const char*> {
 protected:
  // Updates of 8 samples, one micro batch.
  SmallTraining Whole() const {
    return {.model = GetParam(), .batch_size = 8, .max_grad_norm = 0.5, .num_layers = 8};
  }
  // The same updates in four micro batches on each of `dp` ranks.
  SmallTraining Parts(int dp, ScheduleKind schedule, int num_ranks) const {
    SmallTraining training = Whole();
    training.batch_size = 2 / dp;
    training.accumulation = 4;
    training.schedule = schedule;
    if (schedule == ScheduleKind::kInterleaved) {
      training.num_layers_per_virtual_stage = 4 / num_ranks;
    }
    return training;
  }
};

TEST_P(PipelineRanksTest, EverySchedule) {
  const auto context = ParallelContext::SingleProcess();
  const Outcome one = TrainSmall(*context, Whole());
  for (int pp : {2, 4}) {
    for (const ScheduleKind schedule : {ScheduleKind::kGPipe, ScheduleKind::k1F1B,
                                        ScheduleKind::kInterleaved, ScheduleKind::kZeroBubbleH1}) {
      ExpectEqual(Mesh(1, 1, pp), Parts(1, schedule, pp), one,
                  "pp " + std::to_string(pp) + " " + std::string(ScheduleName(schedule)));
    }
  }
}

TEST_P(PipelineRanksTest, WithTheOtherAxes) {
  const auto context = ParallelContext::SingleProcess();
  const Outcome one = TrainSmall(*context, Whole());
  ExpectEqual(Mesh(1, 2, 2), Parts(2, ScheduleKind::k1F1B, 2), one, "dp 2 pp 2");
  ExpectEqual(Mesh(2, 1, 2), Parts(1, ScheduleKind::kInterleaved, 2), one, "tp 2 pp 2");
  SmallTraining training = Parts(2, ScheduleKind::kZeroBubbleH1, 2);
  training.sequence_parallel = true;
  training.recompute = true;
  ExpectEqual(Mesh(2, 2, 2), training, one, "tp 2 dp 2 pp 2, sequence parallel, recompute");
}

TEST_P(PipelineRanksTest, EveryCut) {
  const auto context = ParallelContext::SingleProcess();
  const Outcome one = TrainSmall(*context, Whole());
  for (const char* layout : {"even", "E|t*3|t*5|L", "Et|t|t*2|t*4L"}) {
    SmallTraining training = Parts(1, ScheduleKind::k1F1B, 4);
    training.layout = layout;
    ExpectEqual(Mesh(1, 1, 4), training, one, layout);
  }
}

// The last update of an epoch has fewer micro batches than ranks, and the last of them one sample.
TEST_P(PipelineRanksTest, TheRestOfAnEpoch) {
  const auto context = ParallelContext::SingleProcess();
  SmallTraining training = Parts(1, ScheduleKind::k1F1B, 4);
  training.batch_size = 3;
  training.accumulation = 12;
  const Outcome one = TrainSmall(*context, training);
  for (const ScheduleKind schedule :
       {ScheduleKind::k1F1B, ScheduleKind::kInterleaved, ScheduleKind::kZeroBubbleH1}) {
    training.schedule = schedule;
    training.num_layers_per_virtual_stage = schedule == ScheduleKind::kInterleaved ? 1 : 0;
    ExpectEqual(Mesh(1, 1, 4), training, one,
                "rest of an epoch, " + std::string(ScheduleName(schedule)));
  }
}

TEST_P(PipelineRanksTest, OneProcessResumesWhatAPipelineSaved) {
  const std::string folder = testing::TempDir() + "/pipeline_" + GetParam();
  std::filesystem::create_directories(folder);
  SmallTraining training = Parts(1, ScheduleKind::k1F1B, 2);
  const auto context = ParallelContext::SingleProcess();
  SmallTraining whole = Whole();
  const Outcome uninterrupted = TrainSmall(*context, whole);

  training.output_dir = folder;
  std::mutex mutex;
  std::map<std::string, at::Tensor> saved;
  RunThreadRanks(Mesh(1, 1, 2), [&](const ParallelContext& rank) {
    const Outcome mine = TrainSmall(rank, training);
    std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [name, parts] : mine.weights) saved.emplace(name, parts.at(0).view);
  });

  // At the end already: the weights as they are in the file.
  whole.resume_from = folder + "/checkpoint-5";
  const Outcome loaded = TrainSmall(*context, whole);
  EXPECT_EQ(loaded.weights.size(), saved.size());
  for (const auto& [name, parts] : loaded.weights) {
    EXPECT_TRUE(at::equal(parts.at(0).view, saved.at(name))) << name;
  }
  // In the middle, and back into pipelines.
  whole.resume_from = folder + "/checkpoint-3";
  ExpectEqual(Mesh(1, 1, 1), whole, uninterrupted, "resumed by one process");
  training = Parts(1, ScheduleKind::k1F1B, 4);
  training.resume_from = whole.resume_from;
  ExpectEqual(Mesh(1, 1, 4), training, uninterrupted, "resumed at pp 4");
  training.num_layers_per_virtual_stage = 2;
  training.schedule = ScheduleKind::kInterleaved;
  ExpectEqual(Mesh(1, 1, 2), training, uninterrupted, "resumed at pp 2, interleaved");
}

INSTANTIATE_TEST_SUITE_P(Families, PipelineRanksTest, testing::Values("qwen2", "llama"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
