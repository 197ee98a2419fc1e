"""Fingerprints of models: equal for equal predictions, different otherwise."""

from amodalseg.models.fingerprint import source_fingerprint


def test_kept_inversions_do_not_change_the_fingerprint_of_a_method(tmp_path):
    kept = {"inversion": {"folder": str(tmp_path)}}
    before = source_fingerprint("mrgd", kept)
    (tmp_path / "new.safetensors").write_bytes(b"an inversion")
    assert source_fingerprint("mrgd", kept) == before == source_fingerprint("mrgd")
    assert source_fingerprint("mrgd", {"inversion": {"updates": 3}}) != before


def test_the_content_of_weights_named_in_options_changes_the_fingerprint(tmp_path):
    words = {"words": str(tmp_path)}
    before = source_fingerprint("mrgd", words)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert source_fingerprint("mrgd", words) != before
