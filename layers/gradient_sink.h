// GradientSink: where layers put weight gradients. This seam replaces autograd hooks: who wants to
// reduce, defer or drop weight gradients supplies a sink.
//
//   MainGradSink sink;
//   sink.set_on_ready([&](Parameter& p) { StartReduction(p); });
//   for (Parameter* p : stage.parameters()) p->set_sink(&sink);
//   sink.BeginMicroBatch(/*last=*/true);
//   ... forward, backward ...                      // every weight gradient is now in p->main_grad
//
//   DeferringSink deferred(sink);                  // zero-bubble schedules, tests
//   ... backward ...;  deferred.RunAll();
//
// Thread rule: called from the thread that runs backward; one rank's backward is one thread at a
// time.
#ifndef LATHE_LAYERS_GRADIENT_SINK_H_
#define LATHE_LAYERS_GRADIENT_SINK_H_

#include <deque>
#include <functional>
#include <utility>

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

// Adds one use's weight gradient to `accumulator` (shape of the parameter), or overwrites it if
// `overwrite`. Writing the first contribution with beta = 0 saves zeroing the accumulator and
// reading it back.
using WeightGradient = std::function<void(at::Tensor& accumulator, bool overwrite)>;

class GradientSink {
 public:
  virtual ~GradientSink() = default;

  // Takes one use's gradient; may run it now or later. The closure owns what it needs (input,
  // output gradient).
  virtual void Accumulate(Parameter& parameter, WeightGradient gradient) = 0;

  // The same, run before returning. For the head, whose closure would otherwise keep [tokens,
  // vocabulary] alive.
  virtual void AccumulateNow(Parameter& parameter, const WeightGradient& gradient) = 0;
};

// Runs every closure at once into Parameter::main_grad, which it allocates on first use in
// max(dtype, fp32) unless somebody (the optimizer) has put a buffer there. Reports a parameter
// Ready when the last use of a micro batch after which it is reduced is in.
class MainGradSink : public GradientSink {
 public:
  void Accumulate(Parameter& parameter, WeightGradient gradient) override;
  void AccumulateNow(Parameter& parameter, const WeightGradient& gradient) override;

  // Called before a micro batch's backward; `last`: none follows before gradients are reduced.
  void BeginMicroBatch(bool last) { last_ = last; }
  // Called at most once per parameter and reduction.
  void set_on_ready(std::function<void(Parameter&)> on_ready) { on_ready_ = std::move(on_ready); }
  // Called before a gradient is written for which there is no main_grad: puts one there.
  void set_on_first_write(std::function<void(Parameter&)> on_first_write) {
    on_first_write_ = std::move(on_first_write);
  }

 private:
  bool last_ = true;
  std::function<void(Parameter&)> on_ready_;
  std::function<void(Parameter&)> on_first_write_;
};

// Queues closures until RunAll; the input gradients flow on at once.
class DeferringSink : public GradientSink {
 public:
  explicit DeferringSink(GradientSink& inner) : inner_(inner) {}
  void Accumulate(Parameter& parameter, WeightGradient gradient) override;
  void AccumulateNow(Parameter& parameter, const WeightGradient& gradient) override;

  // Runs the queued closures in the order in which they came: all, or the first `count`.
  void RunAll() { RunFirst(size()); }
  void RunFirst(size_t count);
  size_t size() const { return queue_.size(); }

 private:
  GradientSink& inner_;
  std::deque<std::pair<Parameter*, WeightGradient>> queue_;
};

// accumulator (+)= leftᵀ · right, in the accumulator's dtype: [rows, m]ᵀ · [rows, n] → [m, n].
// The weight gradient of every linear layer. No temporary when the dtypes agree.
void AccumulateOuterProduct(at::Tensor& accumulator, bool overwrite, const at::Tensor& left,
                            const at::Tensor& right);

// accumulator (+)= value, converting.
void AccumulateValue(at::Tensor& accumulator, bool overwrite, const at::Tensor& value);

}  // namespace lathe

#endif  // LATHE_LAYERS_GRADIENT_SINK_H_
