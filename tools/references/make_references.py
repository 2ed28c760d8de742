"""Makes the reference tensors of tests/fixtures with diffusers, transformers and the VORTA authors' own code.

usage: make_references.py MODEL_DIR OUT_DIR [--seed 100] [--only SECTIONS, separated by commas]

DIFFUSERS_SRC and VORTA_SRC name the folders that hold the packages. See README.md.
"""
import argparse
import importlib
import sys
import time
import traceback

from common import References

#: In the order in which they run; vorta_routing and vorta_partial change diffusers' classes.
SECTIONS = [
    "schedulers", "demo", "tiny", "wan_caches", "hunyuan", "hunyuan_vae", "text_encoders", "vorta_attention",
    "vorta_routing", "vorta_partial", "vorta_hunyuan", "hunyuan_pipeline", "fastwan", "wan_images",
]


def section_names(text):
    """Names separated by commas, in the order in which they run."""
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


def run(name, references):
    """Makes one section. Returns whether it succeeded; a failure is printed, so that the others still run."""
    begin = time.time()
    try:
        # Imported only when asked for, since the sections want different packages.
        importlib.import_module(name).make(references)
    except Exception:
        traceback.print_exc()
        print("FAILED", name, flush=True)
        return False
    print("ok", name, f"{time.time() - begin:.1f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description="Makes the reference tensors of tests/fixtures.")
    parser.add_argument("model", help="the demo model's folder")
    parser.add_argument("out", help="the folder to write to")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--only", type=section_names, default=SECTIONS, help="sections, separated by commas")
    args = parser.parse_args()
    references = References(args.model, args.out, args.seed)
    made = [run(name, references) for name in args.only]
    sys.exit(0 if all(made) else 1)


if __name__ == "__main__":
    main()
