// A client of Lathe: a two-layer perceptron whose hidden features are split over tensor-parallel
// ranks learns y = sin(3x). The ranks are threads here; with processes, ParallelContext::Create
// takes a ProcessMesh and a TCP store instead (lathe/comm/gloo/gloo_backend.h).
//
// Prints the loss at tensor-parallel degrees 1, 2 and 4, which are equal but for rounding.
#include <cmath>
#include <cstdio>

#include "ATen/ops/linspace.h"
#include "ATen/ops/mse_loss.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/sin.h"
#include "ATen/ops/tanh.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/tensor_parallel/column_parallel_linear.h"
#include "lathe/tensor_parallel/row_parallel_linear.h"
#include "lathe/zero/zero_optimizer.h"

namespace {

class Perceptron {
 public:
  explicit Perceptron(const lathe::Communicator& tp)
      : up_({.name = "up", .in = 1, .out = 64, .bias = true, .init = lathe::Initializer::Normal(1)},
            tp, at::kFloat),
        down_({.name = "down",
               .in = 64,
               .out = 1,
               .bias = true,
               .init = lathe::Initializer::Normal(0.1)},
              tp, at::kFloat) {}

  at::Tensor Forward(const at::Tensor& x) { return down_.Forward(at::tanh(up_.Forward(x))); }

  std::vector<lathe::Parameter*> parameters() {
    std::vector<lathe::Parameter*> list = up_.parameters();
    for (lathe::Parameter* parameter : down_.parameters()) list.push_back(parameter);
    return list;
  }

 private:
  lathe::ColumnParallelLinear up_;  // its outputs, hence the hidden features, are split
  lathe::RowParallelLinear down_;   // takes the split features and sums over the ranks
};

// The loss after 400 updates.
double Train(const lathe::ParallelContext& context) {
  Perceptron model(context.Group({"tp"}));
  lathe::ZeroOptimizer optimizer(model.parameters(), {.max_grad_norm = 0}, context);
  // Keyed by the parameters' names and elements: the same start at every degree.
  optimizer.ForEachMaster([](lathe::Parameter& parameter, const at::Tensor& master) {
    parameter.InitializeInto(master, /*seed=*/42);
  });
  optimizer.AfterLoad();

  const at::Tensor x = at::linspace(-1, 1, 256).unsqueeze(1), y = at::sin(at::mul(x, 3));
  double loss = 0;
  for (int update = 0; update < 400; ++update) {
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(/*last=*/true);
    const at::Tensor error = at::mse_loss(model.Forward(x), y);
    error.backward();
    optimizer.Step(/*learning_rate=*/1e-2);
    loss = error.item().toDouble();
  }
  return loss;
}

}  // namespace

int main() {
  double first = 0;
  for (int degree : {1, 2, 4}) {
    double loss = 0;
    lathe::RunThreadRanks(*lathe::ProcessMesh::Create({{"tp", degree}}),
                          [&](const lathe::ParallelContext& context) {
                            const double mine = Train(context);
                            if (context.rank() == 0) loss = mine;
                          });
    std::printf("tensor-parallel degree %d: loss %.6f\n", degree, loss);
    if (degree == 1) first = loss;
    if (!(loss < 0.01) || std::abs(loss - first) > 0.1 * first) {
      std::fprintf(stderr, "example: degree %d did not learn what degree 1 did\n", degree);
      return 1;
    }
  }
  return 0;
}
