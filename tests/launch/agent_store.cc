// Stands for torchrun's agent: serves the store at a port until it is killed.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "lathe/comm/rendezvous.h"

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  const auto store = lathe::OpenTcpStore("127.0.0.1", std::atoi(argv[1]), /*world_size=*/1,
                                         /*is_server=*/true, std::chrono::seconds(10));
  if (!store.ok()) return 1;
  std::printf("serving\n");
  std::fflush(stdout);
  pause();
}
