#ifndef LATHE_CHECKPOINT_RANK_GROUP_H_
#define LATHE_CHECKPOINT_RANK_GROUP_H_

// How the ranks that save one checkpoint together meet: a single collective on short texts, which
// the caller makes of whatever its ranks talk through. The default is a group of one.
//
//   RankGroup group{.rank = 1, .num_ranks = 2, .all_gather = [&](std::string mine) { ... }};
//   absl::Status everywhere = group.Agree(my_status);   // the same on all ranks
//
// Thread rule: as for any collective, all ranks make the same calls in the same order.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace lathe {

struct RankGroup {
  int rank = 0;
  int num_ranks = 1;

  // Returns every rank's text, by rank, once all have called; a barrier as well. Texts differ in
  // length (up to some hundred bytes per tensor). Throws what the caller's collectives throw when a
  // rank is gone.
  std::function<std::vector<std::string>(std::string mine)> all_gather = [](std::string mine) {
    return std::vector<std::string>{std::move(mine)};
  };

  // The first failure by rank, with its message, on all ranks; OK when all gave OK.
  absl::Status Agree(const absl::Status& mine) const;
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_RANK_GROUP_H_
