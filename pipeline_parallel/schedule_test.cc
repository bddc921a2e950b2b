// Every schedule over real ranks against one process: the loss and every gradient to the bit, what
// is in flight, and what memory that takes.
#include "lathe/pipeline_parallel/schedule.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/tanh.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/layers/parameter.h"

namespace lathe {
namespace {

constexpr int kLayers = 8;

// Activations of layer i's input; `narrowing`: each boundary has another width.
int64_t Width(int layer, bool narrowing) { return narrowing ? 20 - layer : 12; }

at::Tensor Input(int micro_batch, int64_t rows, int64_t width) {
  const std::string name = "x" + std::to_string(micro_batch);
  Parameter values(name, {rows, width}, ShardSpec::Whole({rows, width}),
                   at::empty({rows, width}, at::kDouble), Initializer::Normal(1));
  values.Initialize(7);
  return values.tensor().detach().clone();
}

// Eight tanh layers, of which this rank has its stages'. Beside the hidden states travels an
// integer tensor that scales the loss.
class TanhStage : public ScheduledStage {
 public:
  TanhStage(const PipelinePlace& place, int num_micro_batches, bool narrowing, int64_t rows = 5)
      : place_(place), num_micro_batches_(num_micro_batches), narrowing_(narrowing), rows_(rows) {
    const int per_stage = kLayers / place.num_stages();
    for (int chunk = 0; chunk < place.num_chunks; ++chunk) {
      for (int i = 0; i < per_stage; ++i) {
        const int layer = place.Stage(chunk) * per_stage + i;
        const std::vector<int64_t> shape{Width(layer + 1, narrowing), Width(layer, narrowing)};
        chunks_[chunk].push_back(
            std::make_unique<Parameter>("w" + std::to_string(layer), shape, ShardSpec::Whole(shape),
                                        at::empty(shape, at::kDouble), Initializer::Normal(0.5)));
        chunks_[chunk].back()->Initialize(3);
        chunks_[chunk].back()->set_sink(&deferred_);
      }
    }
    sink_.set_on_ready([this](Parameter& p) { ready_.push_back(p.name()); });
  }

  void Begin(int micro_batch, bool last) override {
    sink_.BeginMicroBatch(last);
    if (last) {
      EXPECT_EQ(micro_batch, num_micro_batches_ - 1);
    }
  }

  // Micro batches of different sizes.
  int64_t NumSamples(int micro_batch) const override { return rows_ + micro_batch % 2; }

  TensorList Forward(int micro_batch, int chunk, const TensorList& activations) override {
    at::Tensor h, scale;
    if (place_.IsFirst(chunk)) {
      EXPECT_TRUE(activations.empty());
      h = Input(micro_batch, NumSamples(micro_batch), Width(0, narrowing_));
      scale = at::full({NumSamples(micro_batch)}, micro_batch + 1, at::kLong);
    } else {
      h = activations[0];
      scale = activations[1];
      EXPECT_EQ(scale.sum().item().toLong(), (micro_batch + 1) * NumSamples(micro_batch));
    }
    for (const auto& weight : chunks_[chunk]) h = at::tanh(Linear(h, *weight, nullptr));
    if (!at::GradMode::is_enabled()) return {h, scale};
    // Lives as long as this forward's graph.
    ++alive_;
    most_alive_ = std::max(most_alive_, alive_);
    const std::shared_ptr<void> token(nullptr, [this](void*) { --alive_; });
    h = Record("Token", {h}, h.detach().clone(),
               [token](const at::Tensor& grad) -> TensorList { return {grad}; });
    return {h, scale};
  }

  at::Tensor Loss(int, const TensorList& activations) override {
    return activations[0].square().sum(1).mul(activations[1].to(at::kDouble)).sum();
  }

  // With weight gradients at once, or deferred to the sink that is returned.
  DeferringSink* Defer(bool defer) {
    for (auto& [chunk, weights] : chunks_) {
      for (auto& weight : weights) {
        weight->set_sink(defer ? static_cast<GradientSink*>(&deferred_) : &sink_);
      }
    }
    return defer ? &deferred_ : nullptr;
  }

  std::map<std::string, at::Tensor> Gradients() const {
    std::map<std::string, at::Tensor> gradients;
    for (const auto& [chunk, weights] : chunks_) {
      for (const auto& weight : weights) gradients[weight->name()] = weight->main_grad.clone();
    }
    return gradients;
  }

  const std::vector<std::string>& ready() const { return ready_; }
  int most_alive() const { return most_alive_; }
  int alive() const { return alive_; }

 private:
  const PipelinePlace place_;
  const int num_micro_batches_;
  const bool narrowing_;
  const int64_t rows_;
  std::map<int, std::vector<std::unique_ptr<Parameter>>> chunks_;
  MainGradSink sink_;
  DeferringSink deferred_{sink_};
  std::vector<std::string> ready_;
  int alive_ = 0, most_alive_ = 0;
};

struct Reference {
  double loss = 0;
  std::vector<double> losses;
  std::map<std::string, at::Tensor> gradients;
};

Reference OneProcess(int m, bool narrowing) {
  at::set_num_threads(1);  // as ranks have
  TanhStage stage({}, m, narrowing);
  stage.Defer(false);
  Reference reference;
  reference.loss = ForwardBackward(stage, m);
  reference.gradients = stage.Gradients();
  ForwardOnly(stage, m, {}, [&](int i, double loss) {
    EXPECT_EQ(i, static_cast<int>(reference.losses.size()));
    reference.losses.push_back(loss);
  });
  EXPECT_EQ(stage.most_alive(), 1) << "one process accumulates";
  return reference;
}

struct Case {
  ScheduleKind kind;
  int ranks, chunks;
};

class ScheduleTest : public testing::TestWithParam<Case> {};

TEST_P(ScheduleTest, EqualsOneProcessToTheBit) {
  const auto [kind, ranks, chunks] = GetParam();
  // Boundaries of one shape are only needed between chunks.
  const bool narrowing = chunks == 1;
  for (int m : {1, 2, 3, 8}) {
    const Reference reference = OneProcess(m, narrowing);
    RunThreadRanks(*ProcessMesh::Create({{"pp", ranks}}), [&](const ParallelContext& context) {
      const PipelinePlace place{ranks, context.Group({"pp"}).rank(), chunks};
      TanhStage stage(place, m, narrowing);
      Pipeline pipeline{.group = &context.Group({"pp"}), .schedule = kind, .num_chunks = chunks};
      pipeline.deferred = stage.Defer(kind == ScheduleKind::kZeroBubbleH1);
      const bool last = place.rank == ranks - 1;
      const double loss = ForwardBackward(stage, m, pipeline);
      EXPECT_EQ(loss, last ? reference.loss : 0);
      const auto gradients = stage.Gradients();
      EXPECT_EQ(gradients.size(), static_cast<size_t>(kLayers / ranks));
      for (const auto& [name, gradient] : gradients) {
        EXPECT_TRUE(at::equal(gradient, reference.gradients.at(name))) << name << " m " << m;
      }
      EXPECT_EQ(stage.alive(), 0) << "graphs are freed";
      EXPECT_LE(stage.most_alive(), MaxInFlight(MakeSchedule(kind, place, m)));
      // The last chunk's weights are reported ready before the schedule ends, once.
      std::vector<std::string> ready = stage.ready();
      EXPECT_EQ(std::unique(ready.begin(), ready.end()), ready.end());
      EXPECT_EQ(ready.size(), gradients.size() / chunks);

      std::vector<double> losses;
      ForwardOnly(stage, m, pipeline, [&](int i, double value) {
        EXPECT_EQ(i, static_cast<int>(losses.size()));
        losses.push_back(value);
      });
      EXPECT_EQ(losses, last ? reference.losses : std::vector<double>());
    });
  }
}

INSTANTIATE_TEST_SUITE_P(
    Schedules, ScheduleTest,
    testing::Values(Case{ScheduleKind::kGPipe, 1, 1}, Case{ScheduleKind::k1F1B, 1, 1},
                    Case{ScheduleKind::kZeroBubbleH1, 1, 1}, Case{ScheduleKind::kGPipe, 2, 1},
                    Case{ScheduleKind::k1F1B, 2, 1}, Case{ScheduleKind::kZeroBubbleH1, 2, 1},
                    Case{ScheduleKind::kInterleaved, 2, 2}, Case{ScheduleKind::kInterleaved, 2, 4},
                    Case{ScheduleKind::kGPipe, 4, 1}, Case{ScheduleKind::k1F1B, 4, 1},
                    Case{ScheduleKind::kZeroBubbleH1, 4, 1},
                    Case{ScheduleKind::kInterleaved, 4, 2}),
    [](const auto& info) {
      std::string name(ScheduleName(info.param.kind));
      std::erase(name, '-');
      return name + "_" + std::to_string(info.param.ranks) + "_" +
             std::to_string(info.param.chunks);
    });

// The most bytes alive in two ranks together, beyond what was alive before.
int64_t PeakBytes(ScheduleKind kind, int m) {
  int64_t peak = 0;
  RunThreadRanks(*ProcessMesh::Create({{"pp", 2}}), [&](const ParallelContext& context) {
    const Communicator& group = context.Group({"pp"});
    TanhStage stage({2, group.rank(), 1}, m, /*narrowing=*/false, /*rows=*/4096);
    Pipeline pipeline{.group = &group, .schedule = kind};
    pipeline.deferred = stage.Defer(kind == ScheduleKind::kZeroBubbleH1);
    group.Barrier();
    const int64_t before = MemoryMeter::current_bytes();
    if (group.rank() == 0) MemoryMeter::ResetPeak();
    group.Barrier();
    ForwardBackward(stage, m, pipeline);
    group.Barrier();
    if (group.rank() == 0) peak = MemoryMeter::peak_bytes() - before;
  });
  return peak;
}

TEST(ScheduleMemoryTest, OneForwardOneBackwardDoesNotGrowWithMicroBatches) {
  MemoryMeter::Install();
  const int64_t gpipe4 = PeakBytes(ScheduleKind::kGPipe, 4);
  const int64_t gpipe16 = PeakBytes(ScheduleKind::kGPipe, 16);
  EXPECT_GT(gpipe16, 2.5 * gpipe4);
  for (const ScheduleKind kind : {ScheduleKind::k1F1B, ScheduleKind::kZeroBubbleH1}) {
    const int64_t few = PeakBytes(kind, 4), many = PeakBytes(kind, 16);
    EXPECT_LT(many, 1.25 * few) << ScheduleName(kind);
    EXPECT_LT(few, gpipe4) << ScheduleName(kind);
  }
}

// A micro batch of another shape than the first is refused on the rank that makes it.
class UnequalStage : public TanhStage {
 public:
  using TanhStage::TanhStage;
  TensorList Forward(int micro_batch, int chunk, const TensorList& activations) override {
    TensorList outputs = TanhStage::Forward(micro_batch, chunk, activations);
    if (micro_batch == 1) outputs[0] = outputs[0].narrow(0, 0, 3);
    return outputs;
  }
};

TEST(ScheduleErrorTest, MicroBatchesOfOneUpdateHaveOneShape) {
  std::string message;
  try {
    RunThreadRanks(*ProcessMesh::Create({{"pp", 2}}), [&](const ParallelContext& context) {
      const Communicator& group = context.Group({"pp"});
      // The second rank has but one micro batch, so that it does not wait for the other.
      const int m = group.rank() == 0 ? 2 : 1;
      UnequalStage stage({2, group.rank(), 1}, m, /*narrowing=*/false);
      ForwardOnly(stage, m, {.group = &group}, [](int, double) {});
    });
  } catch (const std::exception& e) {
    message = e.what();
  }
  EXPECT_NE(message.find("micro batch 1 has activations of another shape"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace lathe
