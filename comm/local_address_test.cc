#include "lathe/comm/local_address.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

// Two machines are in tests/launch; here what one alone can say.
TEST(LocalAddressTest, TowardsItself) {
  for (const char* host : {"127.0.0.1", "127.0.1.1"}) {
    const auto own = AddressTowards(host);
    ASSERT_TRUE(own.ok()) << own.status();
    EXPECT_TRUE(own->is_loopback);
    EXPECT_TRUE(absl::StartsWith(own->address, "127.")) << own->address;
  }
}

TEST(LocalAddressTest, UnknownHostIsNamed) {
  const auto own = AddressTowards("no.such.host.invalid");
  EXPECT_TRUE(absl::StrContains(own.status().message(), "'no.such.host.invalid'")) << own.status();
}

TEST(LocalAddressTest, Interface) {
  const auto loopback = AddressOfInterface("lo");
  ASSERT_TRUE(loopback.ok()) << loopback.status();
  EXPECT_EQ(loopback->address, "127.0.0.1");
  const std::string error(AddressOfInterface("none7").status().message());
  EXPECT_TRUE(absl::StrContains(error, "'none7'")) << error;
  EXPECT_TRUE(absl::StrContains(error, "lo (127.0.0.1)")) << error;
}

TEST(LocalAddressTest, LoopbackAloneIsRefused) {
  const auto address = ReachableAddress({"127.0.0.1", "127.0.0.1"}, 0);
  EXPECT_TRUE(absl::StrContains(address.status().message(), "--master_addr")) << address.status();
}

}  // namespace
}  // namespace lathe
