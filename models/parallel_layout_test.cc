#include "lathe/models/parallel_layout.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

ModelConfig SmallModel() {
  ModelConfig config;
  config.vocab_size = 67;
  config.intermediate_size = 96;
  config.num_hidden_layers = 8;
  config.num_attention_heads = 12;
  config.num_key_value_heads = 2;
  return config;
}

struct Case {
  ParallelLayout layout;
  std::string error;  // "" where the layout is possible
};

TEST(CheckLayoutTest, Table) {
  const ModelConfig config = SmallModel();
  for (const Case& c : std::vector<Case>{
           {{}, ""},
           {{.world_size = 8}, ""},
           {{.world_size = 8, .tensor_model_parallel_size = 2, .pipeline_model_parallel_size = 4},
            ""},
           // Each of the two KV heads on two ranks.
           {{.world_size = 4, .tensor_model_parallel_size = 4}, ""},
           {{.world_size = 12, .tensor_model_parallel_size = 12}, ""},
           {{.world_size = 8, .pipeline_model_parallel_size = 8}, ""},
           {{.world_size = 2,
             .tensor_model_parallel_size = 2,
             .sequence_parallel = true,
             .seq_len = 16},
            ""},
           {{.sequence_parallel = true, .seq_len = 15}, ""},
           {{.world_size = 4,
             .pipeline_model_parallel_size = 4,
             .num_layers_per_virtual_pipeline_stage = 1,
             .num_micro_batches = 8},
            ""},

           {{.world_size = 5, .tensor_model_parallel_size = 5},
            "--tensor_model_parallel_size 5: the model's num_attention_heads, 12, does not divide "
            "by it; possible with this model: 1, 2, 4, 6, 12"},
           {{.world_size = 3, .tensor_model_parallel_size = 3},
            "--tensor_model_parallel_size 3: the model's num_key_value_heads, 2, neither divides "
            "by it nor divides it; possible with this model: 1, 2, 4, 6, 12"},
           {{.world_size = 16, .pipeline_model_parallel_size = 16},
            "--pipeline_model_parallel_size 16: the model's num_hidden_layers is 8, which leaves a "
            "stage without a layer; lower it to 8 or less"},
           {{.world_size = 6, .tensor_model_parallel_size = 2, .pipeline_model_parallel_size = 2},
            "--tensor_model_parallel_size 2 x --pipeline_model_parallel_size 2 is 4, but the "
            "number of processes is 6; start a multiple of 4 (--nproc_per_node) or lower one of "
            "the two"},
           {{.world_size = 1, .tensor_model_parallel_size = 2},
            "--tensor_model_parallel_size 2 x --pipeline_model_parallel_size 1 is 2, but the "
            "number of processes is 1; start a multiple of 2 (--nproc_per_node) or lower one of "
            "the two"},
           {{.world_size = 4,
             .tensor_model_parallel_size = 4,
             .sequence_parallel = true,
             .seq_len = 18},
            "--sequence_parallel needs a --block_size that divides by --tensor_model_parallel_size "
            "4, got 18; change one of the two"},
           {{.num_layers_per_virtual_pipeline_stage = 1},
            "--num_layers_per_virtual_pipeline_stage 1 needs a --pipeline_model_parallel_size "
            "above 1"},
           {{.world_size = 2,
             .pipeline_model_parallel_size = 2,
             .num_layers_per_virtual_pipeline_stage = 3,
             .num_micro_batches = 2},
            "--num_layers_per_virtual_pipeline_stage 3 x --pipeline_model_parallel_size 2 is 6, "
            "which does not divide the model's num_hidden_layers, 8; change one of the two"},
           {{.world_size = 4,
             .pipeline_model_parallel_size = 4,
             .num_layers_per_virtual_pipeline_stage = 1,
             .num_micro_batches = 6},
            "--num_layers_per_virtual_pipeline_stage 1 interleaves the stages, which needs a "
            "multiple of --pipeline_model_parallel_size 4 micro batches; "
            "--gradient_accumulation_steps is 6"},
       }) {
    EXPECT_EQ(CheckLayout(config, c.layout).message(), c.error);
  }
}

TEST(CheckLayoutTest, TheModelsNumbersAreNamed) {
  const ParallelLayout layout{.world_size = 4, .tensor_model_parallel_size = 4};
  ModelConfig config = SmallModel();
  config.intermediate_size = 90;
  EXPECT_EQ(CheckLayout(config, layout).message(),
            "--tensor_model_parallel_size 4: the model's intermediate_size, 90, does not divide by "
            "it; possible with this model: 1, 2, 6");
  config = SmallModel();
  config.vocab_size = 5;  // 2, 2, 1 and none
  EXPECT_EQ(CheckLayout(config, layout).message(),
            "--tensor_model_parallel_size 4: the model's vocab_size, 5, leaves a rank without a "
            "row; possible with this model: 1, 2");
}

}  // namespace
}  // namespace lathe
