"""folder: files of other repositories under one folder here, so that at run time they have a short, fixed path.

    folder(name = "austen", srcs = ["@lathe_austen//:train.jsonl"])   in third_party/texts

is found in the runfiles, in our own and in a client's build, as lathe/third_party/texts/austen/train.jsonl.
"""

def _impl(ctx):
    outputs = []
    for source in ctx.files.srcs:
        output = ctx.actions.declare_file("%s/%s" % (ctx.label.name, source.basename))
        ctx.actions.symlink(output = output, target_file = source)
        outputs.append(output)
    return [DefaultInfo(files = depset(outputs), runfiles = ctx.runfiles(files = outputs))]

folder = rule(
    implementation = _impl,
    attrs = {"srcs": attr.label_list(allow_files = True)},
)
