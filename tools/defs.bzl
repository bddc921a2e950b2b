"""Lathe's build macros: one set of compiler options, and headers under "lathe/FOLDER/".

lathe_library    one .h/.cc pair; `#include "lathe/peft/lora.h"` names peft/lora.h here and in a client's build
lathe_test       a GoogleTest, main included
lathe_binary     a program
lathe_benchmark  a Google Benchmark, main included; tagged benchmark and manual
lathe_proto_library  a proto2 file: header "lathe/FOLDER/x.pb.h", imported as "lathe/FOLDER/x.proto"

A library with a dependency that tools/layering.bzl does not allow does not load.
"""

load("//tools:layering.bzl", "check_layering")

LATHE_COPTS = [
    "-std=c++20",
    "-O2",
    # at::parallel_for is an inline template that runs on one thread, silently, where OpenMP is off.
    "-fopenmp",
    "-Wall",
    "-Wextra",
    "-Werror=return-type",
    # Options structs are filled by designated initialisers; what is left out keeps its default.
    "-Wno-missing-field-initializers",
    "-Wno-unused-parameter",
    "-Wno-sign-compare",
]

def lathe_library(name, srcs = [], hdrs = [], deps = [], visibility = None, data = [], copts = [], **kwargs):
    check_layering(name, deps)
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = LATHE_COPTS + copts,
        data = data,
        include_prefix = "lathe/" + native.package_name(),
        visibility = visibility,
        deps = deps,
        **kwargs
    )

def lathe_binary(name, srcs, deps = [], visibility = None, data = [], copts = [], **kwargs):
    native.cc_binary(
        name = name,
        srcs = srcs,
        copts = LATHE_COPTS + copts,
        data = data,
        visibility = visibility,
        deps = deps,
        **kwargs
    )

def lathe_test(name, srcs, deps = [], data = [], size = "small", tags = [], copts = [], **kwargs):
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = LATHE_COPTS + copts,
        data = data,
        tags = tags,
        deps = deps + ["//third_party/gtest:main"],
        **kwargs
    )

def lathe_benchmark(name, srcs, deps = [], data = [], copts = [], tags = [], **kwargs):
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = LATHE_COPTS + copts,
        data = data,
        tags = tags + ["benchmark", "manual"],
        deps = deps + ["//third_party/benchmark:main"],
        **kwargs
    )

def lathe_proto_library(name, src, deps = [], visibility = None):
    """Compiles one .proto file to C++; `deps` are other lathe_proto_library targets.

    Args:
      name: the library's name, x_proto for x.proto
      src: the .proto file
      deps: the lathe_proto_library targets that it imports
      visibility: as in cc_library
    """
    stem = src[:-len(".proto")]
    native.filegroup(
        name = name + "_files",
        srcs = [src] + [dep_files(dep) for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_protoc",
        # protoc stands in srcs, not in tools: a tool would be compiled a second time, for the host.
        srcs = [name + "_files", src, "//third_party/protobuf:protoc", "//third_party/protobuf:descriptor_proto"],
        outs = [stem + ".pb.h", stem + ".pb.cc"],
        cmd = """
            set -e
            source=$(location {src})
            root=$${{source%{package}/{src}}}
            well_known=$(location //third_party/protobuf:descriptor_proto)
            mkdir -p $(RULEDIR)/{name}.protoc
            $(location //third_party/protobuf:protoc) --cpp_out=$(RULEDIR)/{name}.protoc \\
                --proto_path=lathe=$${{root:-.}} --proto_path=$${{well_known%/google/protobuf/descriptor.proto}} \\
                lathe/{package}/{src}
            mv $(RULEDIR)/{name}.protoc/lathe/{package}/{stem}.pb.* $(RULEDIR)/
            rm -r $(RULEDIR)/{name}.protoc
        """.format(name = name, package = native.package_name(), src = src, stem = stem),
        visibility = ["//visibility:private"],
    )
    lathe_library(
        name = name,
        srcs = [stem + ".pb.cc"],
        hdrs = [stem + ".pb.h"],
        copts = ["-w"],
        visibility = visibility,
        deps = deps + ["//third_party/protobuf"],
    )

def dep_files(label):
    """The label of the .proto files behind a lathe_proto_library."""
    if ":" in label:
        return label + "_files"
    if label.startswith("//"):
        return "%s:%s_files" % (label, label.split("/")[-1])
    return label + "_files"
