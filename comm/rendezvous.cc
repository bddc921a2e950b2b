#include "lathe/comm/rendezvous.h"

#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "c10/util/Exception.h"
#include "torch/csrc/distributed/c10d/HashStore.hpp"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"

namespace lathe {
namespace {

// c10d's flight recorder is one object for all process groups and not safe when groups of several
// threads write to it (ranks as threads crashed there). It records nothing with a buffer of 0.
// Called before any thread of ours can read the environment; a value that the user set stays.
void TurnOffFlightRecorder() {
  static const int once = setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0);
  (void)once;
}

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

}  // namespace lathe
