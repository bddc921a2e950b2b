"""Stand-ins for repositories that Bazel 4 would download for itself although a C++ build uses next to nothing of them.

rules_java and rules_cc only re-export Bazel's native rules; the coverage tools are empty.
"""

_JAVA_RULES = [
    "java_binary",
    "java_import",
    "java_library",
    "java_lite_proto_library",
    "java_package_configuration",
    "java_plugin",
    "java_proto_library",
    "java_runtime",
    "java_test",
    "java_toolchain",
]

_CC_RULES = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
    "fdo_prefetch_hints",
    "fdo_profile",
    "objc_import",
    "objc_library",
]

def _reexport(rules):
    return "".join(["def {0}(**kwargs):\n    native.{0}(**kwargs)\n\n".format(rule) for rule in rules])

def _stub_impl(rctx):
    for path, content in rctx.attr.files.items():
        rctx.file(path, content)

_stub_repository = repository_rule(
    implementation = _stub_impl,
    attrs = {"files": attr.string_dict(doc = "path -> content")},
)

def bazel_stubs():
    stubs = {
        "rules_java": {
            "BUILD.bazel": "",
            "java/BUILD.bazel": "exports_files(['defs.bzl'])",
            "java/defs.bzl": _reexport(_JAVA_RULES),
        },
        "rules_cc": {
            "BUILD.bazel": "",
            "cc/BUILD.bazel": "exports_files(['defs.bzl'])",
            "cc/defs.bzl": _reexport(_CC_RULES),
        },
        "remote_coverage_tools": {
            "BUILD.bazel": "".join([
                "filegroup(name = '%s', visibility = ['//visibility:public'])\n" % tool
                for tool in ["coverage_report_generator", "lcov_merger"]
            ]),
        },
    }
    for name, files in stubs.items():
        if not native.existing_rule(name):
            _stub_repository(name = name, files = files)
