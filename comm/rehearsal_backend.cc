#include "lathe/comm/rehearsal_backend.h"

#include <memory>
#include <string>
#include <vector>

#include "c10/util/Exception.h"
#include "lathe/comm/backend.h"

namespace lathe {
namespace {

class RehearsalBackend : public Backend {
 public:
  explicit RehearsalBackend(std::deque<at::Tensor>& mail) : mail_(mail) {}

  bool rehearses() const override { return true; }

  void AllGather(const at::Tensor& in, at::Tensor& out) override {
    if (!out.is_meta()) out.view({-1, in.numel()}).copy_(in.view({1, -1}).expand({-1, -1}));
  }
  void AllToAll(const at::Tensor& in, at::Tensor& out) override {
    if (!out.is_meta()) out.copy_(in);
  }
  void Broadcast(at::Tensor&, int) override {}
  void Exchange(std::vector<Transfer>& sends, std::vector<Transfer>& receives) override {
    for (Transfer& receive : receives) {
      if (receive.tensor.is_meta()) continue;
      TORCH_CHECK(!mail_.empty(), "the stages of a pipeline are rehearsed in their order");
      receive.tensor.copy_(mail_.front());
      mail_.pop_front();
    }
    for (Transfer& send : sends) {
      if (!send.tensor.is_meta()) mail_.push_back(send.tensor.clone());
    }
  }
  void Barrier() override {}

 private:
  std::deque<at::Tensor>& mail_;
};

}  // namespace

BackendFactory RehearseRanks(std::deque<at::Tensor>& mail) {
  return [&mail](const std::string&, const std::vector<int>&, int) {
    return std::make_unique<RehearsalBackend>(mail);
  };
}

}  // namespace lathe
