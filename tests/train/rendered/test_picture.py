"""Heads and pictures of a made face model: what moves, what is seen, and what stays the same."""

import cv2
import numpy as np
import pytest

from doubles.face_kit import write_face_kit
from iern.train.rendered.camera import place_camera
from iern.train.rendered.expressions import Contraction, contract, shape_names
from iern.train.rendered.head import deform, head_model
from iern.train.rendered.kit import EYE_CENTRES, EYEBALLS, SKIN, Material, read_kit
from iern.train.rendered.materials import see
from iern.train.rendered.person import draw_person
from iern.train.rendered.picture import SIZE, render

REST = Contraction({}, (0.0, 0.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return head_model(read_kit(write_face_kit(tmp_path_factory.mktemp("kit") / "kit", shape_names()), shape_names()))


@pytest.fixture(scope="module")
def people(model):
    return [draw_person(model, np.random.default_rng([3, k])) for k in range(8)]


def mesh_of(model, person, contraction):
    return deform(model, person.shape, person.eyes, person.hair, contraction)


def test_the_eyes_turn_to_the_gaze_and_stay_where_they_are(model, people):
    """A gaze to the subject's left and up moves the pupils along x and y by the radius times its sine, about."""
    ahead, aside = (mesh_of(model, people[0], Contraction({}, gaze)).vertices for gaze in ((0.0, 0.0), (0.3, 0.2)))
    for part, centre in zip(EYEBALLS, EYE_CENTRES, strict=True):
        eyeball = slice(part.start, part.start + 720)
        pupil = eyeball.start + int(ahead[eyeball, 2].argmax())
        moved = aside[pupil] - ahead[pupil]
        assert moved[:2] == pytest.approx([1.2 * np.sin(0.3), 1.2 * np.sin(0.2)], abs=0.12)
        distances = np.linalg.norm(aside[eyeball] - centre, axis=1)
        np.testing.assert_allclose(distances, np.linalg.norm(ahead[eyeball] - centre, axis=1), atol=1e-4)


def test_muscles_add_their_displacement_and_shortened_skin_is_compressed(model, people):
    """The jaw of the made model lowers what is below the mouth by its weight, and a negative weight raises it."""
    meshes = (mesh_of(model, people[0], Contraction({"jawOpen": weight}, (0.0, 0.0))) for weight in (0, 0.5, -0.2))
    at_rest, opened, pushed_up = meshes
    below = model.neutral[SKIN, 1] < -3.01
    moved = (opened.vertices - at_rest.vertices)[SKIN][below]
    np.testing.assert_allclose(moved, np.tile([0, -0.5, -0.25], (below.sum(), 1)), atol=1e-3)
    assert at_rest.compression.max() < 1e-5
    assert opened.compression.max() < 0.05
    assert 0.1 < pushed_up.compression.max() <= 0.6


def test_what_lies_open_gets_more_light_than_what_is_enclosed(model):
    forehead = np.argmin(np.linalg.norm(model.neutral[SKIN] - (0, 9, 8), axis=1))
    inside = EYEBALLS[0].start + int(model.neutral[EYEBALLS[0].start : EYEBALLS[0].start + 720, 2].argmin())
    assert model.openness[0, forehead] > 0.95
    assert model.openness[0, inside] < 0.1
    assert (model.openness >= 0).all() and (model.openness <= 1 + 1e-6).all()


def test_the_camera_sees_points_where_it_projects_them(model, people):
    camera = place_camera(SIZE, np.random.default_rng(5))
    mesh = mesh_of(model, people[0], REST)
    surface = see(model, mesh, REST, camera, people[0].lashes, 1)
    row, column = np.divmod(surface.pixel, camera.side)
    projected = camera.project(surface.position)
    np.testing.assert_allclose(projected[:, 0], column + 0.5, atol=0.01)
    np.testing.assert_allclose(projected[:, 1], row + 0.5, atol=0.01)
    np.testing.assert_allclose(camera.turn(camera.turn_back(surface.position)), surface.position, atol=1e-4)
    facing = (surface.normal * camera.directions_from(surface.position)).sum(1)
    assert (facing[surface.material == Material.EYE] > -0.1).all()


def test_a_picture_depends_on_its_seed_alone_and_people_differ(model, people):
    def picture(person, seed):
        rng = np.random.default_rng(seed)
        return render(model, person, contract("happiness", person.at_rest, rng), rng)

    first = picture(people[0], 1)
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, picture(people[0], 1))
    assert not np.array_equal(first, picture(people[0], 2))
    assert not np.array_equal(first, picture(people[1], 1))


def test_a_face_is_neither_black_nor_white_under_any_light(model, people):
    for k, person in enumerate(people):
        rng = np.random.default_rng([7, k])
        picture = render(model, person, contract("neutral", person.at_rest, rng), rng)
        middle = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[60:120, 60:120]
        assert 15 < middle.mean() < 235 and middle.std() > 3


def test_people_span_the_skin_tones_and_some_have_long_hair_and_glasses(model):
    crowd = [draw_person(model, np.random.default_rng([11, k])) for k in range(30)]
    lightness = np.array([person.skin.mean() for person in crowd])
    assert lightness.min() < 0.1 and lightness.max() > 0.4
    assert 0.1 < np.mean([person.hair.curtain is not None for person in crowd]) < 0.6
    assert 0 < np.mean([person.glasses is not None for person in crowd]) < 0.3
    for person in crowd:
        assert np.isfinite(person.albedo).all() and person.albedo.min() > -0.01 and person.albedo.max() < 1.5
