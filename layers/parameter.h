// Parameter: one weight as this rank holds it, under its logical (Hugging Face) name.
//
//   Parameter weight("model.layers.0.mlp.up_proj.weight", {704, 256},
//                    ShardSpec::Slice({704, 256}, /*dim=*/0, /*offset=*/352, /*length=*/352),
//                    at::empty({352, 256}), Initializer::Normal(0.02));
//
// Layout never leaks into the name: what differs between ranks is the ShardSpec, which says which
// boxes of the whole, unpadded tensor lie where in the local one. Padding belongs to no box, so it
// is never initialised from a stream, saved, or counted in a norm. Initialisation is keyed by
// (seed, name, element), hence equal on every layout.
//
// Gradients do not pass through autograd's .grad: layers hand them to a GradientSink
// (gradient_sink.h), which accumulates into main_grad. Thread rule: a Parameter belongs to one
// rank; its methods are called from that rank's threads, never at once.
#ifndef LATHE_LAYERS_PARAMETER_H_
#define LATHE_LAYERS_PARAMETER_H_

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/base/box.h"

namespace lathe {

class GradientSink;

// `logical` (a box of the whole tensor) lies at `local_offset` of the local tensor.
struct ShardPiece {
  Box logical;
  std::vector<int64_t> local_offset;
};

struct ShardSpec {
  std::vector<ShardPiece> pieces;
  // 0 on the one rank, among those that hold the same boxes, that saves them and counts them in
  // norms.
  int replica = 0;

  // The whole tensor.
  static ShardSpec Whole(const std::vector<int64_t>& shape, int replica = 0);
  // [offset, offset + length) of one dim, at the start of the local tensor. `length` may be 0 (all
  // padding).
  static ShardSpec Slice(const std::vector<int64_t>& shape, int dim, int64_t offset, int64_t length,
                         int replica = 0);
};

// Over which ranks a gradient is only a part of a sum.
struct PartialSum {
  std::string axis;  // of the mesh
  int block = 0;     // over the `block` consecutive ranks along it that this one is in; 0: over all

  friend auto operator<=>(const PartialSum&, const PartialSum&) = default;
};

struct Initializer {
  enum class Kind { kZeros, kOnes, kNormal, kUniform };
  Kind kind = Kind::kZeros;
  double scale = 0;       // kNormal: standard deviation, about 0; kUniform: largest magnitude
  int64_t zero_row = -1;  // row of dim 0 that starts at 0 whatever the kind (a padding token's
                          // embedding); −1: none

  static Initializer Zeros() { return {Kind::kZeros, 0, -1}; }
  static Initializer Ones() { return {Kind::kOnes, 0, -1}; }
  static Initializer Normal(double std) { return {Kind::kNormal, std, -1}; }
  // Between -bound and bound.
  static Initializer Uniform(double bound) { return {Kind::kUniform, bound, -1}; }
};

class Parameter {
 public:
  // `tensor`: the local tensor, padding included; its content is set by Initialize or by a loader.
  // On the meta device it takes no memory until it is moved elsewhere.
  Parameter(std::string name, std::vector<int64_t> full_shape, ShardSpec shard, at::Tensor tensor,
            Initializer initializer);
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  const std::string& name() const { return name_; }
  // Shape of the whole tensor without padding, as in the model file.
  const std::vector<int64_t>& full_shape() const { return full_shape_; }
  const ShardSpec& shard() const { return shard_; }

  // The local tensor: a leaf that requires grad exactly if the parameter is trainable.
  const at::Tensor& tensor() const { return tensor_; }
  // Moves the parameter into other storage of the same shape and dtype (a flat buffer, say),
  // keeping its values, if it has any: one that was made on the meta device has none.
  void MoveTo(const at::Tensor& storage);
  // The same, but the values are then those of `storage`, which need not be in memory.
  void PointTo(const at::Tensor& storage);

  // Which part of the model the parameter is of: those of one unit are gathered together where
  // weights are sharded, and no flat buffer holds two units.
  int unit() const { return unit_; }
  void set_unit(int unit) { unit_ = unit; }

  bool trainable() const { return tensor_.requires_grad(); }
  void set_trainable(bool trainable) { tensor_.set_requires_grad(trainable); }

  // The ranks over which this rank's gradient is only a part of the sum: all along "tp" for what is
  // replicated over tensor ranks that each saw other tokens, a block of them for a KV head that
  // several hold. The data-parallel axis is not listed: it is the optimizer's business.
  const std::vector<PartialSum>& partial_sums() const { return partial_sums_; }
  void set_partial_sums(std::vector<PartialSum> sums) { partial_sums_ = std::move(sums); }

  // Whether another pipeline stage holds the same weight, as the first and the last do of an
  // embedding that is also the head: the gradient is the sum of both stages'. `copy`: of the one
  // that is neither saved nor counted in norms.
  bool tied() const { return tied_; }
  void Tie(bool copy) {
    tied_ = true;
    if (copy) shard_.replica += 1;
  }

  // Fills the local tensor: each piece from the stream (seed, "init", name), padding with 0.
  void Initialize(uint64_t seed) { InitializeInto(tensor_, seed); }
  // The same into another tensor of the local shape, of any dtype: a master, which keeps what the
  // parameter's own dtype would round off.
  void InitializeInto(const at::Tensor& local, uint64_t seed) const;

  // Where gradients go; never null once a sink is set on the model.
  GradientSink* sink() const { return sink_; }
  void set_sink(GradientSink* sink) { sink_ = sink; }

  // The gradient of the update so far, shape of tensor(), dtype of the optimizer's choice. Valid
  // content only while grad_written(); the first accumulation of an update overwrites, so nobody
  // spends a pass on zeroing it.
  at::Tensor main_grad;
  bool grad_written() const { return grad_written_; }
  void set_grad_written(bool written) { grad_written_ = written; }

  // Uses in recorded forwards whose weight gradient has not been accumulated yet (two for tied
  // embeddings).
  int pending_uses() const { return pending_uses_; }
  void BeginUse() { ++pending_uses_; }
  void EndUse() { --pending_uses_; }
  void ForgetUses() { pending_uses_ = 0; }

 private:
  std::string name_;
  std::vector<int64_t> full_shape_;
  ShardSpec shard_;
  at::Tensor tensor_;
  Initializer initializer_;
  std::vector<PartialSum> partial_sums_;
  bool tied_ = false;
  int unit_ = 0;
  GradientSink* sink_ = nullptr;
  bool grad_written_ = false;
  int pending_uses_ = 0;
};

// The regions of `local`, a tensor laid out as p.tensor() (a master, an optimizer state), with the
// boxes of the logical tensor that they hold. Views.
struct LogicalPiece {
  Box logical;
  at::Tensor view;
};
std::vector<LogicalPiece> LogicalPieces(const Parameter& p, const at::Tensor& local);

// The logical elements that this rank holds (padding excluded).
int64_t NumLogicalElements(const Parameter& parameter);

}  // namespace lathe

#endif  // LATHE_LAYERS_PARAMETER_H_
