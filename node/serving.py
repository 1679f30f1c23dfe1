"""What this peer serves to the others: blobs under B4, final batches under Y1. Runs in worker threads, reads only."""

from ledger.blobs import BlobStore
from ledger.chain import Chain
from node.exchange import read_head
from node.transport import BlobHead, Refused

DIGESTS_KEPT_MAX = 64


class Librarian:
    """Decides which member may have which blob. The event loop replaces the two sets, worker threads read them."""

    def __init__(self, chain: Chain, blobs: BlobStore) -> None:
        self._chain, self._blobs = chain, blobs
        self._open_updates: frozenset[bytes] = frozenset()
        self._committee: frozenset[bytes] = frozenset()
        self._digests: dict[bytes, bytes] = {}

    def guard(self, open_updates: frozenset[bytes], committee: frozenset[bytes]) -> None:
        """B4: these updates belong to a round whose slots are open, and to this committee alone."""
        self._committee = committee
        self._open_updates = open_updates

    def check(self, member: bytes, blob: bytes) -> bool:
        """Whether the blob may be served to the member: True, False for one that the chain does not name; raises
        `Refused` for an update of the open round (B4)."""
        if blob in self._open_updates:
            if member not in self._committee:
                raise Refused("an update of the open round is served to its committee only (B4)")
            return True
        return self._chain.store.named_at(blob) is not None

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        """Digests and chunk 0 of a blob, where the member may have it."""
        return self._read_head(blob) if self.check(member, blob) else None

    def _read_head(self, blob: bytes) -> BlobHead | None:
        """The digests are kept: else each small request would have a whole blob read and hashed (A8). What a disk
        damages meanwhile, the receiver finds by them."""
        if (digests := self._digests.get(blob)) is not None:
            first = self._blobs.read_chunk(blob, 0)
            return None if first is None else BlobHead(digests, first)
        head = read_head(self._blobs, blob)
        if head is not None:
            if len(self._digests) >= DIGESTS_KEPT_MAX:
                self._digests.clear()
            self._digests[blob] = head.digests
        return head

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        """One chunk of a blob, where the member may have it."""
        return self._blobs.read_chunk(blob, index) if self.check(member, blob) else None

    def serve_batches(self, height: int, bytes_max: int) -> list[bytes]:
        """Encoded final batches from the one that holds `height`, at least one if there is any (Y1)."""
        certificate = self._chain.store.certificate(height)
        if certificate is None:
            return []
        served: list[bytes] = []
        room = bytes_max
        for batch in self._chain.batches(certificate.instance):
            data = batch.encode()
            if served and len(data) > room:
                break
            served.append(data)
            room -= len(data)
        return served
