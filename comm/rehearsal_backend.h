// A transport to ranks that are not there, for rehearsals: one rank's step on the meta device, to
// see what memory it takes.
//
//   std::deque<at::Tensor> mail;   // what a pipeline's stages say to the next, rehearsed in order
//   auto context = ParallelContext::Create(mesh, rank, RehearseRanks(mail), at::kMeta);
//
// Collectives run when they are posted, and hold their inputs until they are waited for, as those
// of slow ranks do. Meta tensors stay as they are; of others every rank has what this one has.
#ifndef LATHE_COMM_REHEARSAL_BACKEND_H_
#define LATHE_COMM_REHEARSAL_BACKEND_H_

#include <deque>

#include "ATen/core/Tensor.h"
#include "lathe/comm/parallel_context.h"

namespace lathe {

// `mail` must outlive the context. What is sent in memory is put there, what is received in memory
// taken from there.
BackendFactory RehearseRanks(std::deque<at::Tensor>& mail);

}  // namespace lathe

#endif  // LATHE_COMM_REHEARSAL_BACKEND_H_
