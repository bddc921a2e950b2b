"""converted_repository: files of another repository, converted once, at fetch time, by scripts of ours.

The scripts are plain Python and need no packages. What they write becomes the repository.
"""

load("//third_party:pypi.bzl", "fail_with_log")

def _impl(rctx):
    sources = [rctx.path(source) for source in rctx.attr.sources]
    for module in rctx.attr.modules:
        rctx.path(module)
    for script in rctx.attr.scripts:
        result = rctx.execute(["python3", "-B", rctx.path(script)] + sources, timeout = 3600)
        if result.return_code != 0:
            fail_with_log(rctx, "%s failed" % script.name, result)
    rctx.file("BUILD.bazel", "exports_files(glob(['**'], exclude = ['BUILD.bazel']))\n")

converted_repository = repository_rule(
    implementation = _impl,
    attrs = {
        "scripts": attr.label_list(doc = "each is run with the sources as arguments, in the repository's folder"),
        "modules": attr.label_list(doc = "what the scripts import"),
        "sources": attr.label_list(),
    },
)
