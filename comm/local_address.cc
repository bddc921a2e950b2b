#include "lathe/comm/local_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lathe {
namespace {

socklen_t SizeOf(const sockaddr* address) {
  return address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

bool IsInternet(const sockaddr* address) {
  return address != nullptr && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

std::string Numeric(const sockaddr* address) {
  char text[NI_MAXHOST] = {};
  if (getnameinfo(address, SizeOf(address), text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "";
  }
  return text;
}

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24 == 127;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

// Interfaces that are up, each as often as it has addresses.
std::vector<LocalAddress> OwnAddresses() {
  std::vector<LocalAddress> found;
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return found;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    if (!(entry->ifa_flags & IFF_UP) || !IsInternet(entry->ifa_addr)) continue;
    found.push_back({Numeric(entry->ifa_addr), entry->ifa_name, IsLoopback(entry->ifa_addr)});
  }
  freeifaddrs(first);
  return found;
}

std::string Text(const std::vector<LocalAddress>& addresses) {
  return absl::StrJoin(addresses, ", ", [](std::string* out, const LocalAddress& a) {
    absl::StrAppend(out, a.interface, " (", a.address, ")");
  });
}

// The source address that the system would choose; connecting a datagram socket sends nothing.
bool SourceTowards(const addrinfo& target, LocalAddress* source) {
  const int fd = socket(target.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_storage own = {};
  socklen_t size = sizeof(own);
  const bool found = connect(fd, target.ai_addr, target.ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0;
  const int error = errno;
  close(fd);
  errno = error;
  if (!found) return false;
  source->address = Numeric(reinterpret_cast<sockaddr*>(&own));
  source->is_loopback = IsLoopback(reinterpret_cast<sockaddr*>(&own));
  return true;
}

}  // namespace

absl::StatusOr<LocalAddress> AddressTowards(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* raw = nullptr;
  // The port only makes the address whole.
  const int failed = getaddrinfo(host.c_str(), "9", &hints, &raw);
  if (failed != 0) {
    return absl::UnavailableError(
        absl::StrCat("host '", host, "' cannot be looked up: ", gai_strerror(failed),
                     "; MASTER_ADDR (--master_addr, the hostfile) names a machine for all ranks"));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> targets(raw, &freeaddrinfo);
  LocalAddress source;
  int error = EADDRNOTAVAIL;
  for (const addrinfo* target = raw; target != nullptr; target = target->ai_next) {
    if (!SourceTowards(*target, &source)) {
      error = errno;
      continue;
    }
    for (const LocalAddress& own : OwnAddresses()) {
      if (own.address == source.address) source.interface = own.interface;
    }
    return source;
  }
  return absl::UnavailableError(absl::StrCat("no route to host '", host, "': ", strerror(error)));
}

absl::StatusOr<LocalAddress> AddressOfInterface(const std::string& interface) {
  std::vector<LocalAddress> all = OwnAddresses();
  for (LocalAddress& own : all) {
    if (own.interface == interface) return std::move(own);
  }
  return absl::NotFoundError(absl::StrCat("GLOO_SOCKET_IFNAME is '", interface,
                                          "', which is no network interface of this machine; it "
                                          "has ",
                                          Text(all)));
}

absl::StatusOr<LocalAddress> ReachableAddress(const std::vector<std::string>& towards_master,
                                              int rank) {
  ABSL_ASSIGN_OR_RETURN(LocalAddress own, AddressTowards(towards_master[rank]));
  if (!own.is_loopback) return own;
  for (const std::string& other : towards_master) {
    ABSL_ASSIGN_OR_RETURN(LocalAddress way, AddressTowards(other));
    if (!way.is_loopback) return way;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "ranks are on several machines, but each of them reaches rank 0's at a loopback "
      "address (",
      own.address, "): MASTER_ADDR (--master_addr) must name a machine that all can reach"));
}

}  // namespace lathe
