"""Set .venv up from a pinned requirements file, with its progress; nothing to do when it is as wanted.

Runs on whatever Python the machine has, to say clearly when that is too old: no newer syntax in here.
"""
# ruff: noqa: C401, RUF005, PTH100, PTH103, PTH110, PTH112, PTH118, PTH120, PTH123, UP021, UP031

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
PIP = [PYTHON, "-m", "pip"]
QUIET = ["--require-hashes", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
FETCHERS = 4
"""How many fetch at once: an index is waited for more than it is read from."""


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


def pinned(path):
    """The requirements of a file, each with its hashes."""
    with open(path) as file:
        return re.findall(r"(?m)^[a-zA-Z0-9].*(?:\n[ \t]+.*)*", file.read())


def plain(name):
    """A package's name and version as all spell them."""
    return re.sub(r"[-_.]+", "-", name.split("==")[0]).lower() + "==" + name.split("==")[-1]


def missing(requirements):
    """Those that are not installed as pinned."""
    listed = subprocess.run(PIP + ["list", "--format=freeze"], stdout=subprocess.PIPE, universal_newlines=True)
    there = set(plain(line) for line in listed.stdout.split())
    return [one for one in requirements if plain(one.split()[0]) not in there]


def fetch(requirements, folder, begun):
    """Fetch packages into a folder, several at once; whether all came."""
    os.makedirs(folder)
    fetchers = []
    for number in range(min(FETCHERS, len(requirements))):
        part = os.path.join(folder, "part%d" % number)
        with open(part + ".txt", "w") as file:
            file.write("\n".join(requirements[number::FETCHERS]) + "\n")
        command = PIP + ["download", "--no-deps", "--dest", folder, "-r", part + ".txt"] + QUIET
        with open(part + ".log", "w") as log:
            fetchers.append((subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT), part + ".log"))
    told = 0
    try:
        while any(process.poll() is None for process, _ in fetchers):
            time.sleep(0.2)
            seen = 0
            for _, path in fetchers:
                with open(path) as log:
                    seen += sum(line.startswith("Collecting ") for line in log)
            if seen - told >= 15 and seen < len(requirements):
                told = seen
                say(begun, "%d of %d packages fetched" % (seen, len(requirements)))
    finally:
        for process, _ in fetchers:
            if process.poll() is None:
                process.terminate()
            process.wait()
    return all(process.returncode == 0 for process, _ in fetchers)


def quickly(path, begun, log):
    """Fetch several at once, install, compile on all cores; whether that went well. Half the time of pip by itself."""
    folder = os.path.join(VENV, "fetched")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if not fetch(missing(pinned(path)), folder, begun):
            return False
        command = PIP + ["install", "--no-deps", "--no-compile", "--no-index", "--find-links", folder, "-r", path]
        return run(command + QUIET, begun, 0, log) == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def precompile(begun):
    """Compile what was installed, but the packages' own tests, on all cores; what is left compiles when it is used."""
    say(begun, "compiling them")
    command = [PYTHON, "-m", "compileall", "-qq", "-j", "0", "-x", "/tests?/", os.path.join(VENV, "lib")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
        total = len(pinned(path))
        say(begun, "installing %d pinned packages into .venv (only this once)" % total)
        log = []
        if quickly(path, begun, log):
            precompile(begun)
        else:
            # pip by itself can more, as building what comes as source, and says best what is wrong.
            log = []
            if run(PIP + ["install", "-r", path] + QUIET, begun, total, log):
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
