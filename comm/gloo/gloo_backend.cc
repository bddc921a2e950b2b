#include "lathe/comm/gloo/gloo_backend.h"

#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "c10/util/Exception.h"
#include "lathe/comm/backend.h"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp"

namespace lathe {
namespace {

// Data movement is typeless: as bytes, every dtype takes the same path.
at::Tensor Bytes(const at::Tensor& tensor) { return tensor.view({-1}).view(at::kByte); }

class GlooBackend : public Backend {
 public:
  explicit GlooBackend(c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : group_(std::move(group)) {}

  void AllGather(const at::Tensor& in, at::Tensor& out) override {
    // Straight into `out`: Gloo's own gathers into memory of its own and copies.
    const int size = group_->getSize(), rank = group_->getRank();
    const at::Tensor slices = Bytes(out).view({size, -1});
    slices[rank].copy_(Bytes(in));
    std::vector<Transfer> sends, receives;
    for (int step = 1; step < size; ++step) {
      const int from = (rank + size - step) % size;
      sends.push_back({in, (rank + step) % size});
      receives.push_back({slices[from], from});
    }
    Exchange(sends, receives);
  }

  void AllToAll(const at::Tensor& in, at::Tensor& out) override {
    at::Tensor input = Bytes(in), output = Bytes(out);
    std::vector<int64_t> equal_split;
    group_->alltoall_base(output, input, equal_split, equal_split)->wait();
  }

  void Broadcast(at::Tensor& tensor, int root) override {
    std::vector<at::Tensor> tensors{Bytes(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group_->broadcast(tensors, options)->wait();
  }

  void Exchange(std::vector<Transfer>& sends, std::vector<Transfer>& receives) override {
    // One tag for all: Gloo matches messages of a pair and tag in posting order.
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (Transfer& t : receives) {
      std::vector<at::Tensor> tensors{Bytes(t.tensor)};
      works.push_back(group_->recv(tensors, t.peer, /*tag=*/0));
    }
    for (Transfer& t : sends) {
      std::vector<at::Tensor> tensors{Bytes(t.tensor)};
      works.push_back(group_->send(tensors, t.peer, /*tag=*/0));
    }
    for (auto& work : works) work->wait();
  }

  void Barrier() override { group_->barrier()->wait(); }

 private:
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

BackendFactory ConnectGloo(RendezvousStore store, std::chrono::milliseconds timeout,
                           const std::string& address) {
  return [store = std::move(store), timeout, address](const std::string& group,
                                                      const std::vector<int>& ranks, int rank) {
    const auto error = [&](std::string_view detail) {
      return std::runtime_error(
          absl::StrCat(detail.substr(0, detail.find('\n')), "; this rank listens at ", address,
                       " (GLOO_SOCKET_IFNAME names another network interface)"));
    };
    try {
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
      options->threads = 2;  // one to send, one to receive in an Exchange
      auto prefixed = c10::make_intrusive<c10d::PrefixStore>(group, store);
      return std::make_unique<GlooBackend>(c10::make_intrusive<c10d::ProcessGroupGloo>(
          prefixed, rank, static_cast<int>(ranks.size()), options));
    } catch (const c10::Error& e) {
      throw error(e.what_without_backtrace());
    } catch (const std::exception& e) {
      throw error(e.what());
    }
  };
}

}  // namespace lathe
