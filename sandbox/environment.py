"""Set .venv up from a pinned requirements file, with its progress; nothing to do when it is as wanted.

Runs on whatever Python the machine has, to say clearly when that is too old: no newer syntax in here.
"""
# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH120, PTH123, UP021, UP031

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")


def stop(sentence):
    """Say what is wrong and end."""
    sys.stderr.write(sentence + "\n")
    sys.exit(1)


def digest(name):
    """What identifies a set of requirements on an interpreter."""
    with open(os.path.join(ROOT, "requirements", name + ".txt"), "rb") as file:
        return "%d.%d %s" % (sys.version_info[0], sys.version_info[1], hashlib.sha256(file.read()).hexdigest())


def stamp(name):
    """The file that says a set is installed."""
    return os.path.join(VENV, ".pilothouse-" + name)


def installed(name):
    """Whether a set is installed as pinned, by itself or as a part of the larger one."""
    if not os.path.exists(PYTHON):
        return False
    for candidate in ("run", "dev") if name == "run" else ("dev",):
        try:
            with open(stamp(candidate)) as file:
                lines = file.read().split("\n")
        except OSError:
            continue
        if digest(name) in lines:
            return True
    return False


def say(begun, text):
    """One line of progress."""
    sys.stdout.write("%6.1f s  %s\n" % (time.time() - begun, text))
    sys.stdout.flush()


def run(command, begun, total, log):
    """Run pip, turning its talk into a line for every tenth package."""
    told = 0
    seen = 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    try:
        for line in process.stdout:
            log.append(line.rstrip())
            if re.match(r"(Collecting|Requirement already satisfied:) ", line):
                seen += 1
                if seen - told >= 15 and seen < total:
                    told = seen
                    say(begun, "%d of %d packages fetched" % (seen, total))
            elif line.startswith("Installing collected packages"):
                say(begun, "installing them")
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        sys.exit(130)


def explain(log):
    """The sentence for a pip that failed."""
    text = "\n".join(log)
    if "No space left on device" in text:
        return "The disk is full: the packages could not be installed into .venv."
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in text:
        return "A package differs from the one pinned in requirements/: nothing was installed from it."
    errors = [line for line in log if line.startswith("ERROR:")] or log[-1:]
    return "The packages could not be installed: " + (errors[-1] if errors else "pip said nothing.")


def main(name):
    """Bring .venv to what requirements/<name>.txt says."""
    if sys.version_info < OLDEST:
        stop(
            "Pilothouse needs Python %d.%d or newer, and this is %d.%d: name another with make PYTHON=/path/to/python3."
            % (OLDEST + tuple(sys.version_info[:2]))
        )
    if installed(name):
        return
    begun = time.time()
    wanted = "%d.%d" % tuple(sys.version_info[:2])
    try:
        if os.path.exists(VENV) and not os.path.isdir(os.path.join(VENV, "lib", "python" + wanted)):
            shutil.rmtree(VENV)
        if not os.path.exists(PYTHON) or not os.path.exists(os.path.join(VENV, "bin", "pip")):
            say(begun, "making .venv with Python " + wanted)
            made = subprocess.run(
                [sys.executable, "-m", "venv", "--clear", VENV],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
            )  # fmt: skip
            if made.returncode:
                if "No space left" in made.stdout:
                    stop("The disk is full: .venv could not be made.")
                if "ensurepip" in made.stdout:
                    stop("This Python cannot make environments: install its venv package (python3-venv) and run again.")
                stop("The environment .venv could not be made: " + made.stdout.strip().split("\n")[-1])
        path = os.path.join(ROOT, "requirements", name + ".txt")
        with open(path) as file:
            total = sum(1 for line in file if re.match(r"[a-zA-Z0-9]", line))
        say(begun, "installing %d pinned packages into .venv (only this once)" % total)
        log = []
        code = run(
            [PYTHON, "-m", "pip", "install", "--require-hashes", "--disable-pip-version-check", "--no-input",
             "--progress-bar", "off", "-r", path],
            begun, total, log,
        )  # fmt: skip
        if code:
            stop(explain(log))
        lines = [digest(name)] + ([digest("run")] if name == "dev" else [])
        with open(stamp(name), "w") as file:
            file.write("\n".join(lines) + "\n")
        say(begun, "the environment is ready")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno in (28, 122):
            stop("The disk is full: .venv could not be set up.")
        stop("The environment .venv could not be set up: %s (%s)." % (error.strerror, error.filename))


if __name__ == "__main__":
    main(sys.argv[1])
