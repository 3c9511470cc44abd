"""The process that sandboxes are forked from: it does once what all of them need.

It starts with an empty environment, becomes root of a user namespace, makes the layers of the root
file system and then waits for sockets: each becomes the control socket of a new sandbox. It ends
when its own socket closes.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import socket
from collections.abc import Mapping

from pytest_shelleval.sandboxes.local import protocol
from pytest_shelleval.sandboxes.local.inside import supervisor
from pytest_shelleval.sandboxes.local.world import identity, inherited, namespaces, rootfs, seccomp
from pytest_shelleval.sandboxes.local.world.identity import StageError, stage

_SANDBOX = (
    namespaces.CLONE_NEWUSER
    | namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWNET
)
# Processes of a sandbox besides those of commands: its supervisor, and shells that it starts.
_SPARE_PROCESSES = 8


def main(descriptor: int) -> None:
    """Serve the client at the other end of *descriptor* until it disconnects."""
    os.set_inheritable(descriptor, False)
    client = socket.socket(fileno=descriptor)
    try:
        message = client.recv(65536)
        limits = protocol.CONFIGURATION.unpack_from(message)
        image = os.fsdecode(message[protocol.CONFIGURATION.size :])
        zygote = Zygote(client, limits, image)
    except StageError as error:
        facts = {"stage": error.stage, "errno": error.errno, "error": error}
        client.send(protocol.pack_facts(facts))
        return
    except Exception as error:
        facts = {"stage": "start", "errno": 0, "error": supervisor.told(error)}
        client.send(protocol.pack_facts(facts))
        return
    client.send(protocol.pack_facts(zygote.facts))
    # Every sandbox is a copy of this process: pages that nobody writes to stay shared.
    gc.collect()
    gc.freeze()
    gc.disable()
    zygote.serve()


class Zygote:
    """What all sandboxes of one client share."""

    def __init__(self, client: socket.socket, limits: tuple[int, ...], image: str) -> None:
        self._client = client
        inherited.shed()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files < protocol.DESCRIPTORS_NEEDED:
            raise OSError(
                errno.EMFILE,
                f"a process may open {files} files here, and a sandbox needs "
                f"{protocol.DESCRIPTORS_NEEDED}: raise the limit (ulimit -n)",
            )
        with stage("seccomp"):
            try:
                program = seccomp.build(os.uname().machine)
            except KeyError:
                raise OSError(38, f"no system call table for {os.uname().machine}") from None
        # The kernel may have no keyrings, a container may deny them.
        with contextlib.suppress(OSError):
            namespaces.new_session_keyring()
        self._identity = identity.enter([image] if image else rootfs.host_trees())
        self._configuration = supervisor.Configuration(limits, self._identity.ids)
        self._configuration.program = program
        if self._identity.mode == "single" or (self._identity.mode == "subuid" and not image):
            telling = seccomp.build_telling(os.uname().machine, self._identity.ids == 1)
            self._configuration.telling = telling
        with stage("mount namespace"):
            namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWCGROUP)
        self._processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with stage("file system"):
            self._configuration.trees = rootfs.prepare(self._identity.mapped, image)
        for tree in self._identity.mapped.values():
            os.close(tree)
        namespaces.overwrite_arguments(b"init")
        namespaces.set_name("init")
        # The kernel reaps sandboxes; those who wait for one have a descriptor of it.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self._count = 0
        if self._identity.ids > 1:
            wanted = self._configuration.processes + _SPARE_PROCESSES
            inherited.set_limit(resource.RLIMIT_NPROC, wanted, wanted)

    @property
    def facts(self) -> Mapping[str, object]:
        """How sandboxes are built here."""
        return {
            "ids": self._identity.mode,
            "id_count": self._identity.ids,
            "mapped": " ".join(sorted(self._identity.mapped)),
            "read_only": " ".join(
                f"/{tree.path}" for tree in self._configuration.trees if not tree.writable
            ),
        }

    def serve(self) -> None:
        """Create a sandbox for each socket received."""
        while True:
            message, descriptors = protocol.receive_with_descriptors(self._client, 64)
            if not message:
                return
            for descriptor in descriptors:
                control = socket.socket(fileno=descriptor)
                try:
                    self._create(control, message == protocol.WITH_SHELL)
                except Exception as error:
                    supervisor.send_failure(control, error)
                finally:
                    control.close()

    def _create(self, control: socket.socket, ahead: bool) -> None:
        wait, go = os.pipe()
        try:
            child = self._clone()
            if not child:
                os.close(go)
                self._become_sandbox(control, wait, ahead)
            try:
                with stage("id map of a sandbox"):
                    for name in ("uid_map", "gid_map"):
                        self._write(f"{child}/{name}", self._identity.same_ids)
                os.write(go, b"g")
            except BaseException:
                os.kill(child, signal.SIGKILL)
                raise
        finally:
            os.close(wait)
            os.close(go)

    def _clone(self) -> int:
        if self._identity.ids == 1:
            return namespaces.clone(_SANDBOX)
        # Processes are counted per owner of a user namespace: each sandbox gets its own owner.
        self._count += 1
        os.seteuid(1 + self._count % (self._identity.ids - 1))
        namespaces.set_dumpable(True)
        child = -1
        try:
            child = namespaces.clone(_SANDBOX)
            return child
        finally:
            if child:
                os.seteuid(0)
                namespaces.set_dumpable(True)

    def _write(self, path: str, content: bytes) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._processes)
        try:
            os.write(file, content)
        finally:
            os.close(file)

    def _become_sandbox(self, control: socket.socket, wait: int, ahead: bool) -> None:
        """In the child: never returns."""
        try:
            ready = os.read(wait, 1)  # nothing if the zygote failed before the ids were mapped
            os.close(wait)
            self._client.close()
            os.close(self._processes)
            if ready:
                supervisor.run(control, self._configuration, ahead)
        except BaseException as error:
            supervisor.send_failure(control, error)
        finally:
            os._exit(1)
