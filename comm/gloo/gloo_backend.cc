#include "lathe/comm/gloo/gloo_backend.h"

#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "c10/util/Exception.h"
#include "torch/csrc/distributed/c10d/HashStore.hpp"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"

namespace lathe {
namespace {

// Data movement is typeless: as bytes, every dtype takes the same path.
at::Tensor Bytes(const at::Tensor& tensor) { return tensor.view({-1}).view(at::kByte); }

// c10d's flight recorder is one object for all process groups and not safe when groups of several
// threads write to it (ranks as threads crashed there). It records nothing with a buffer of 0.
// Called before any thread of ours can read the environment; a value that the user set stays.
void TurnOffFlightRecorder() {
  static const int once = setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0);
  (void)once;
}

class GlooBackend : public Backend {
 public:
  explicit GlooBackend(c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : group_(std::move(group)) {}

  void AllGather(const at::Tensor& in, at::Tensor& out) override {
    at::Tensor input = Bytes(in), output = Bytes(out);
    group_->_allgather_base(output, input)->wait();
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

absl::StatusOr<RendezvousStore> OpenTcpStore(const std::string& host, int port, int world_size,
                                             bool is_server, std::chrono::milliseconds timeout) {
  TurnOffFlightRecorder();
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = is_server;
  options.numWorkers = world_size;
  // The server must not wait for workers here: a rank that dies before joining would block rank 0
  // silently.
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(host, options);
  } catch (const c10::Error& e) {
    return absl::UnavailableError(
        absl::StrCat("no rendezvous at ", host, ":", port,
                     " (MASTER_ADDR, MASTER_PORT): ", e.what_without_backtrace()));
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat("no rendezvous at ", host, ":", port,
                                               " (MASTER_ADDR, MASTER_PORT): ", e.what()));
  }
}

RendezvousStore MakeThreadStore() {
  TurnOffFlightRecorder();
  return c10::make_intrusive<c10d::HashStore>();
}

BackendFactory ConnectGloo(RendezvousStore store, std::chrono::milliseconds timeout,
                           bool loopback) {
  return [store = std::move(store), timeout, loopback](const std::string& group,
                                                       const std::vector<int>& ranks, int rank) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (interface != nullptr && *interface != '\0') {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    } else if (loopback) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    } else {
      options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    }
    options->threads = 2;  // one to send, one to receive in an Exchange
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>(group, store);
    return std::make_unique<GlooBackend>(c10::make_intrusive<c10d::ProcessGroupGloo>(
        prefixed, rank, static_cast<int>(ranks.size()), options));
  };
}

}  // namespace lathe
