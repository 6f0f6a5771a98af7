"""The reader of the face model, on a model that is written here."""

import numpy as np
import pytest

from doubles.face_kit import face_mesh, vertex_lines, write_face_kit
from iern.runtime.errors import DataError
from iern.train.rendered.kit import (
    EYE_CENTRES,
    EYEBALLS,
    MESHES,
    NEUTRAL,
    PARTS,
    VERTICES,
    Material,
    materials_of_vertices,
    read_kit,
)

SHAPES = ("browDown_L", "jawOpen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_face_kit(tmp_path_factory.mktemp("kit") / "ICT-FaceKit", SHAPES)


@pytest.fixture
def broken(folder, tmp_path):
    """A copy whose files may be replaced: links to the same meshes."""
    copy = tmp_path / MESHES
    copy.mkdir()
    for path in (folder / MESHES).iterdir():
        (copy / path.name).symlink_to(path)
    return copy


def replace(path, text):
    path.unlink()
    path.write_text(text, encoding="utf-8")


def test_the_kit_has_the_meshes_that_were_written(folder):
    kit = read_kit(folder, SHAPES)
    vertices, polygons = face_mesh()
    np.testing.assert_allclose(kit.neutral, vertices, rtol=1e-4, atol=1e-4)
    assert kit.identities.shape == (100, VERTICES, 3) and not kit.identities.any()
    assert set(kit.shapes) == set(SHAPES)
    below = kit.neutral[:, 1] < -3.01
    np.testing.assert_allclose(kit.shapes["jawOpen"][below], np.tile([0, -1, -0.5], (below.sum(), 1)), atol=1e-3)
    assert not kit.shapes["browDown_L"].any()
    assert [sorted(set(quad)) for quad in kit.quads.tolist()] == [sorted(set(polygon)) for polygon in polygons]
    for part, centre in zip(EYEBALLS, EYE_CENTRES, strict=True):
        assert np.linalg.norm(kit.neutral[part.start : part.start + 720] - centre, axis=1).max() < 1.3


def test_a_checkout_and_its_folder_of_meshes_are_both_a_kit(folder):
    assert np.array_equal(read_kit(folder, ()).quads, read_kit(folder / MESHES, ()).quads)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jawOpen", vertex_lines(np.zeros((3, 3))), r"jawOpen\.obj: has 3 vertices, expected the 26719"),
        ("identity007", "v 1 2\n" * VERTICES, "identity007.* vertices, expected"),
        ("jawOpen", "v 1 2 x\n" * VERTICES, "not three numbers"),
        ("jawOpen", "v 1 2 nan\n" * VERTICES, "jawOpen.*expected"),
        (NEUTRAL, "v 0 0 0\n" * VERTICES, "expected polygons"),
        (NEUTRAL, "v 0 0 0\n" * VERTICES + "f 1 2 3 4 5\n", "no triangle or quadrangle"),
        (NEUTRAL, "v 0 0 0\n" * VERTICES + "f 1 2\n", "no triangle or quadrangle"),
        (NEUTRAL, "v 0 0 0\n" * VERTICES + "f 1 2 26720\n", "expected polygons of its 26719"),
    ],
)
def test_a_mesh_of_another_model_is_refused_by_its_name(broken, name, text, message):
    replace(broken / f"{name}.obj", text)
    with pytest.raises(DataError, match=message):
        read_kit(broken, SHAPES)


def test_a_missing_mesh_is_named_with_where_to_find_it(broken, tmp_path):
    (broken / "browDown_L.obj").unlink()
    with pytest.raises(DataError, match=r"browDown_L\.obj: cannot be read.*github\.com/USC-ICT/ICT-FaceKit"):
        read_kit(broken, SHAPES)
    with pytest.raises(DataError, match=r"generic_neutral_mesh\.obj: cannot be read"):
        read_kit(tmp_path / "nothing", SHAPES)


def test_the_parts_are_those_of_the_readme_and_no_vertex_is_in_two():
    """Numbers of vertices from the table of the kit's README."""
    counts = np.bincount(materials_of_vertices() + 1)
    expected = {Material.SKIN: 9409 + 1839, Material.MOUTH: 2046, Material.SOCKET: 2 * 384, Material.GUMS: 2977}
    expected |= {Material.TEETH: 4412, Material.EYE: 2 * (1570 - 800), Material.LASH: 2 * 684}
    assert {material: counts[material + 1] for material in expected} == expected
    assert sum(last - first + 1 for first, last, _ in PARTS) == counts[1:].sum()
