// A client of Lathe: a perceptron of four residual blocks learns y = sin(3x + 1). The hidden
// features of each block are split over tensor-parallel ranks, the blocks over the stages of a
// pipeline. The ranks are threads here; with processes, ParallelContext::Create takes a ProcessMesh
// and a TCP store instead (lathe/comm/gloo/gloo_backend.h).
//
// Prints the loss for several meshes, which are equal but for rounding.
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/add.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/sin.h"
#include "ATen/ops/sub.h"
#include "ATen/ops/tanh.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/pipeline_parallel/schedule.h"
#include "lathe/tensor_parallel/column_parallel_linear.h"
#include "lathe/tensor_parallel/row_parallel_linear.h"
#include "lathe/zero/zero_optimizer.h"

namespace {

constexpr int kBlocks = 4, kWidth = 16, kHidden = 32;
constexpr int kSamples = 256, kMicroBatches = 4;

class Block {
 public:
  Block(int index, const lathe::Communicator& tp)
      : up_({.name = "up" + std::to_string(index),
             .in = kWidth,
             .out = kHidden,
             .bias = true,
             .init = lathe::Initializer::Normal(0.3)},
            tp, at::kFloat),
        down_({.name = "down" + std::to_string(index),
               .in = kHidden,
               .out = kWidth,
               .bias = true,
               .init = lathe::Initializer::Normal(0.1)},
              tp, at::kFloat) {}

  at::Tensor Forward(const at::Tensor& h) {
    return at::add(h, down_.Forward(at::tanh(up_.Forward(h))));
  }

  void AppendParameters(std::vector<lathe::Parameter*>* list) {
    for (lathe::Parameter* parameter : up_.parameters()) list->push_back(parameter);
    for (lathe::Parameter* parameter : down_.parameters()) list->push_back(parameter);
  }

 private:
  lathe::ColumnParallelLinear up_;  // its outputs, hence the hidden features, are split
  lathe::RowParallelLinear down_;   // takes the split features and sums over the ranks
};

// This rank's blocks, as the schedule sees them.
class Model : public lathe::ScheduledStage {
 public:
  explicit Model(const lathe::ParallelContext& context) {
    const lathe::Communicator& pp = context.Group({"pp"});
    // Layer 0 stands for the input, the last for the loss.
    const auto partition =
        lathe::PartitionLayers({.num_blocks = kBlocks, .num_ranks = pp.size(), .layout = "even"});
    const std::vector<int>& cuts = partition->boundaries;
    for (int layer = cuts[pp.rank()]; layer < cuts[pp.rank() + 1]; ++layer) {
      if (layer < 1 || layer > kBlocks) continue;
      blocks_.push_back(std::make_unique<Block>(layer, context.Group({"tp"})));
      blocks_.back()->AppendParameters(&parameters_);
    }
    optimizer_ = std::make_unique<lathe::ZeroOptimizer>(
        parameters_, lathe::ZeroOptions{.max_grad_norm = 0}, context);
    // Keyed by the parameters' names and elements: the same start on every mesh.
    optimizer_->FillMasters([](lathe::Parameter& parameter, const at::Tensor& master) {
      parameter.InitializeInto(master, /*seed=*/42);
    });
    optimizer_->AfterLoad();
  }

  void Begin(int micro_batch, bool last) override {
    optimizer_->BeginMicroBatch(micro_batch, last);
  }

  int64_t NumSamples(int) const override { return kSamples / kMicroBatches; }

  lathe::TensorList Forward(int micro_batch, int, const lathe::TensorList& activations) override {
    at::Tensor h = activations.empty() ? at::mul(Inputs(micro_batch), at::linspace(-1, 1, kWidth))
                                       : activations[0];
    for (auto& block : blocks_) h = block->Forward(h);
    return {h};
  }

  at::Tensor Loss(int micro_batch, const lathe::TensorList& activations) override {
    const at::Tensor y = activations[0].mean(1, /*keepdim=*/true);
    return at::sub(y, at::sin(at::add(at::mul(Inputs(micro_batch), 3), 1)))
        .square()
        .sum()
        .div(kSamples);
  }

  lathe::ZeroOptimizer& optimizer() { return *optimizer_; }

 private:
  static at::Tensor Inputs(int micro_batch) {
    const int64_t rows = kSamples / kMicroBatches;
    return at::linspace(-1, 1, kSamples).narrow(0, micro_batch * rows, rows).unsqueeze(1);
  }

  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<lathe::Parameter*> parameters_;
  std::unique_ptr<lathe::ZeroOptimizer> optimizer_;
};

// The loss after 100 updates, where the last stage is; 0 elsewhere.
double Train(const lathe::ParallelContext& context) {
  Model model(context);
  const lathe::Pipeline pipeline{.group = &context.Group({"pp"})};
  double loss = 0;
  for (int update = 0; update < 100; ++update) {
    model.optimizer().BeginUpdate();
    loss = lathe::ForwardBackward(model, kMicroBatches, pipeline);
    model.optimizer().Step(/*learning_rate=*/1e-3);
  }
  return loss;
}

}  // namespace

int main() {
  const std::pair<int, int> meshes[] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {1, 4}};
  double first = 0;
  for (const auto& [tp_size, pp_size] : meshes) {
    const int tp = tp_size, pp = pp_size;
    double loss = 0;
    lathe::RunThreadRanks(*lathe::ProcessMesh::Create({{"tp", tp}, {"pp", pp}}),
                          [&](const lathe::ParallelContext& context) {
                            const double mine = Train(context);
                            if (context.rank() == context.world_size() - 1) loss = mine;
                          });
    std::printf("tensor-parallel %d, pipeline-parallel %d: loss %.6f\n", tp, pp, loss);
    if (tp * pp == 1) first = loss;
    if (!(loss < 0.05) || std::abs(loss - first) > 0.01 * first) {
      std::fprintf(stderr, "example: this mesh did not learn what one process did\n");
      return 1;
    }
  }
  return 0;
}
