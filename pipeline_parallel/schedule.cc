#include "lathe/pipeline_parallel/schedule.h"

namespace lathe {

double ForwardBackward(ScheduledStage& stage, int num_micro_batches) {
  double sum = 0;
  for (int i = 0; i < num_micro_batches; ++i) {
    stage.Begin(i, /*last=*/i == num_micro_batches - 1);
    const at::Tensor loss = stage.Loss(i, stage.Forward(i, {}));
    RunBackward({loss}, {{}});
    sum += loss.item().toDouble();
  }
  return sum;
}

void ForwardOnly(ScheduledStage& stage, int num_micro_batches,
                 const std::function<void(int, double)>& on_loss) {
  at::NoGradGuard no_grad;
  for (int i = 0; i < num_micro_batches; ++i) {
    on_loss(i, stage.Loss(i, stage.Forward(i, {})).item().toDouble());
  }
}

}  // namespace lathe
