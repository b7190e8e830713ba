"""Every condition: its null, its dropping, how it reaches a network, and what samples ask for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import conditions, config, keys
from diffjax.conditions import CONDITIONS, augment, nulls, replaced, requests, values
from diffjax.data.encoded import completed, encoded
from diffjax.data.source import ArraySource, Field, class_field
from diffjax.data.text import TOKENIZERS
from diffjax.keys import Draws
from diffjax.machine import parallel
from diffjax.models import MODELS
from diffjax.models.conditioning import Widths
from diffjax.types import ConfigError, Trained

WORDS = TOKENIZERS["words"](("a two above a seven", "the digit 3"))
FIELDS = {
  "image": Field((4, 4, 1), "uint8"),
  "label": Field((), "int32", 10),
  "kind": Field((), "int32", 3),
  "words": Field((8,), "int32"),
  "several": Field((2,), "int32", 4),
  "embedding": Field((6,), "float32"),
  "map": Field((3, 5), "float32"),
  "text": Field((WORDS.length,), "int32", WORDS.vocabulary, tokenizer=WORDS),
  "video": Field((3, 4, 4, 1), "uint8"),
  "moving": Field((), "int32", 2),
}


def encode_text(params, text):
  """What a run makes of texts, here numbers of each token alone."""
  tokens = params["table"][text] * (text >= 0)[..., None]
  return {"tokens": tokens, "pooled": tokens.sum(1)}


TABLE = jnp.asarray(np.random.default_rng(3).standard_normal((WORDS.vocabulary, 5)), jnp.float32)
READER = Trained(
  "runs/clip",
  {"encode_text": encode_text, "tokenizer": lambda params: WORDS},
  {"table": TABLE},
  "fingerprint",
)
# id -> dropout -> Condition; every entry of CONDITIONS, those with options of weight, and the augmentation's
MAKE = {name: functools.partial(make, FIELDS) for name, make in CONDITIONS.items()}
MAKE["label-kind"] = functools.partial(CONDITIONS["label"], FIELDS, field="kind")
MAKE["vector-tokens"] = functools.partial(CONDITIONS["vector"], FIELDS, tokens=2, scale=3.0)
MAKE["text"] = functools.partial(CONDITIONS["text"], FIELDS, channels=8, blocks=1, heads=2)
MAKE["text-run"] = functools.partial(CONDITIONS["text"], FIELDS, run=READER, edge=False)
MAKE["augment"] = lambda dropout=0.0: augment(4)
every_condition = pytest.mark.parametrize("kind", MAKE)


def batch(count=4, seed=0):
  rng = np.random.default_rng(seed)

  def drawn(field):
    shape = (count, *field.shape)
    if field.dtype == "float32":
      return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, field.classes or 256, shape).astype(field.dtype)

  data = {name: jnp.asarray(drawn(field)) for name, field in FIELDS.items()}
  data["moving"] = (jnp.arange(count, dtype=jnp.int32) + 1 + seed) % 2
  value = jnp.asarray(rng.standard_normal((count, 4)), jnp.float32)
  condition = completed(data, MAKE["text-run"]().encodings, {"runs/clip": READER.params})
  return condition | {"augment": value, "index": jnp.arange(count)}


def draws(count, seed=0):
  return Draws(keys.seed(seed), jnp.arange(count), count)


def source():
  data = batch(7, seed=9)
  arrays = {name: np.asarray(data[name]) for name in FIELDS}
  return ArraySource(
    arrays, "", {name: field.classes for name, field in FIELDS.items()}, tokenizers={"text": WORDS}
  )


def rows(tree):
  """[B, ...] of every example's numbers, whatever the tree."""
  return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(tree)], axis=1)


@every_condition
def test_the_null_is_of_the_value_s_kind_and_is_no_value(kind):
  condition, data = MAKE[kind](), batch(40)
  value = condition.value(data, None)
  null = condition.null(value)
  assert jax.tree.structure(null) == jax.tree.structure(value)
  for a, b in zip(jax.tree.leaves(null), jax.tree.leaves(value), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype and len(a) == 40
  assert len(np.unique(rows(null), axis=0)) == 1
  assert (rows(null) != rows(value)).any(1).all()
  if condition.classes:
    np.testing.assert_array_equal(null, condition.classes)
    assert {*np.asarray(value).tolist()} <= {*range(condition.classes)}
  assert {*condition.fields} <= FIELDS.keys()


def test_values_are_those_of_the_fields():
  data = batch()
  for kind, want in {
    "label": data["label"],
    "label-kind": data["kind"],
    "vector": data["embedding"],
    "vector-tokens": 3 * data["embedding"],
    "text": data["text"],
    "augment": data["augment"],
  }.items():
    np.testing.assert_allclose(MAKE[kind]().value(data, None), want, rtol=1e-6)
  del data["augment"]  # at sampling nothing was done
  np.testing.assert_array_equal(MAKE["augment"]().value(data, None), np.zeros((4, 4)))


def test_frames_are_told_as_they_are_and_no_others():
  data = batch()
  planes = CONDITIONS["frames"](FIELDS, given=(0, 2)).value(data, None)
  assert planes.shape == (4, 3, 4, 4, 2)
  np.testing.assert_allclose(planes[:, ::2, ..., 0], data["video"][:, ::2, ..., 0] / 127.5 - 1, atol=1e-6)
  np.testing.assert_array_equal(planes[:, 1], 0)
  np.testing.assert_array_equal(planes[:, ::2, ..., 1], 1)
  np.testing.assert_array_equal(MAKE["moving"]().request(np.arange(3), None)["moving"], 1)


COUNT = 10_000


def test_frames_drawn_in_training_are_any_number_anywhere():
  video = {"video": np.full((COUNT, 3, 1, 1, 1), 255, np.uint8)}
  condition = CONDITIONS["frames"]({"video": Field((3, 1, 1, 1), "uint8")}, given=(2,), drawn=0.6)
  planes = np.asarray(condition.value(video, draws(COUNT)))[:, :, 0, 0]
  np.testing.assert_array_equal(planes[..., 0], planes[..., 1])  # white where it is given, else 0
  which, counts = np.unique(planes[..., 0], axis=0, return_counts=True)
  want = {(0, 0, 0): 0.2, (0, 0, 1): 0.4 + 0.2 / 3, (0, 1, 0): 0.2 / 3, (1, 0, 0): 0.2 / 3}
  want |= dict.fromkeys([(0, 1, 1), (1, 0, 1), (1, 1, 0)], 0.2 / 3)
  assert {tuple(row): n / COUNT for row, n in zip(which, counts, strict=True)} == pytest.approx(
    want, abs=0.02
  )
  np.testing.assert_array_equal(condition.value(video, None)[:2, :, 0, 0, 1], [[0, 0, 1]] * 2)


def dropped(rates, data=None, seed=0):
  """Of a batch of COUNT, which example's value is its null: name -> [COUNT], from one call of `values`."""
  tells = {kind: MAKE[kind](dropout=rate) for kind, rate in rates.items()}
  data = batch(COUNT) if data is None else data
  result = values(tells, data, draws(COUNT, seed))
  held = values(tells, data)
  out = {}
  for kind, condition in tells.items():
    out[kind] = (rows(result[kind]) == rows(condition.null(held[kind]))).all(1)
    np.testing.assert_array_equal(rows(result[kind])[~out[kind]], rows(held[kind])[~out[kind]])
  return out


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind not in ("augment", "moving")])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_each_is_dropped_at_its_rate(kind, rate):
  share = np.mean(dropped({kind: rate})[kind])
  assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / COUNT)


def test_one_draw_drops_them_all():
  seen = dropped({"label": 0.3, "label-kind": 0.3, "vector": 0.1, "augment": None})
  np.testing.assert_array_equal(seen["label"], seen["label-kind"])
  assert seen["vector"].sum() and not np.any(seen["vector"] & ~seen["label"])
  assert not seen["augment"].any()
  again = dropped({"label": 0.3}, seed=1)
  assert 0.3 < np.mean(again["label"] != seen["label"]) < 0.5  # 2 * 0.3 * 0.7 of independent draws


def test_without_draws_or_rates_nothing_is_dropped():
  data = batch(COUNT)
  for tells, drawn in (
    ({"label": MAKE["label"](dropout=0.9)}, None),
    ({"label": MAKE["label"]()}, draws(COUNT)),
  ):
    np.testing.assert_array_equal(values(tells, data, drawn)["label"], data["label"])
  some_dropped = np.asarray(values({"label": MAKE["label"](dropout=0.9)}, data, draws(COUNT))["label"])
  np.testing.assert_array_equal(some_dropped[some_dropped != data["label"]], 10)


def test_an_example_is_dropped_by_its_own_key():
  tells = {"vector": MAKE["vector"](dropout=0.5)}
  data, order = batch(64), np.array([40, 3, 17, 60])
  whole = values(tells, data, draws(64))["vector"]
  part = {name: value[order] for name, value in data.items()}
  some = values(tells, part, Draws(keys.seed(0), jnp.asarray(order), 64))["vector"]
  np.testing.assert_array_equal(some, whole[order])


def test_a_tree_is_replaced_leaf_by_leaf():
  value = {"tokens": jnp.ones((3, 2, 4)), "mask": jnp.ones((3, 2), bool)}
  null = jax.tree.map(jnp.zeros_like, value)
  out = replaced(value, null, jnp.asarray([False, True, False]))
  for name, leaf in out.items():
    assert leaf.dtype == value[name].dtype and leaf.shape == value[name].shape
    np.testing.assert_array_equal(leaf.any(tuple(range(1, leaf.ndim))), [True, False, True])


def test_nulls_are_of_all_or_of_none():
  tells = {"label": MAKE["label"](), "vector": MAKE["vector"]()}
  cond = values(tells, batch())
  result = nulls(tells, cond)
  np.testing.assert_array_equal(result["label"], 10)
  np.testing.assert_array_equal(result["vector"], 0)
  never = {**tells, "vector": conditions.Condition(**{**vars(tells["vector"]), "null": None})}
  assert nulls(never, cond) is None


NETWORKS = {
  "unet": {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "dropout": 0.0},
  "dit": {"patch": 2, "channels": 16, "blocks": 2, "heads": 2},
  "prior": {"channels": 16, "blocks": 2, "heads": 2},
}


OF_VIDEOS, OF_IMAGES = ("frames", "moving"), ("low",)


@functools.cache
def network(name, video):
  """A network that is told of all, or of images a few, with random parameters none of which is zero.

  (cond) -> videos [4, 3, 4, 4, 1], or images [4, 4, 4, 1]
  """
  others = OF_IMAGES if video else OF_VIDEOS
  tells = {
    kind: make() for kind, make in MAKE.items() if "kind" not in kind and kind not in ("vector", *others)
  }
  if not video and name != "prior":  # the others reach it as they do of videos
    tells = {kind: tells[kind] for kind in ("label", *OF_IMAGES)}
  embeds = tuple((kind, condition.embed) for kind, condition in tells.items())
  net = MODELS[name](out_channels=1, conditions=embeds, dtype="float32", **NETWORKS[name])
  rng, cond = np.random.default_rng(0), values(tells, batch())
  x = jnp.asarray(rng.standard_normal((4, 3, 4, 4, 1) if video else (4, 4, 4, 1)), jnp.float32)
  time = jnp.asarray([0.0, 5.0, 300.0, 999.0])
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, time, cond)["params"]
  params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
  return jax.jit(lambda cond: net.apply({"params": params}, x, time, cond)), tells, cond


@pytest.mark.parametrize(
  "name, video",
  [(name, video) for name in MODELS for video in (True, False) if (name, video) != ("prior", True)],
)
def test_each_reaches_the_output_of_its_example_alone(name, video):
  run, tells, cond = network(name, video)
  if video or name == "prior":
    others = OF_IMAGES if video else OF_VIDEOS
    assert {kind.split("-")[0] for kind in tells} == {*CONDITIONS, "augment"} - {*others}
  out = run(cond)
  for kind, condition in tells.items():
    for other in (condition.null(cond[kind]), condition.value(batch(seed=1), None)):
      mixed = replaced(cond[kind], other, jnp.asarray([False, True, False, False]))
      changed = run({**cond, kind: mixed})
      np.testing.assert_array_equal(np.delete(changed, 1, axis=0), np.delete(out, 1, axis=0))
      assert np.abs(changed[1] - out[1]).max() > 1e-3, kind


@every_condition
def test_samples_ask_for_fields_of_the_right_shape(kind):
  condition, index, data = MAKE[kind](), np.arange(13), source()
  request = condition.request(index, data)
  if kind == "augment":
    assert request == {}
    return
  of_data = request.keys() & FIELDS.keys()  # others only samples have, an image's brightness say
  assert request and (not of_data or condition.leads or of_data == {*condition.fields})
  for name, value in request.items():
    field = FIELDS.get(name, Field(value.shape[1:], str(value.dtype)))
    assert isinstance(value, np.ndarray) and value.shape == (13, *field.shape) and value.dtype == field.dtype
    again = condition.request(index[4:9], data)[name]
    np.testing.assert_array_equal(again, value[4:9])  # a sample asks for the same in any company


def test_classes_are_asked_for_in_turn_or_one_for_all():
  request = requests({"label": MAKE["label"](), "kind": MAKE["label-kind"](request="2")}, np.arange(23), None)
  np.testing.assert_array_equal(request["label"], np.arange(23) % 10)
  np.testing.assert_array_equal(request["kind"], 2)


ANIMALS = {"label": class_field(np.repeat([0, 1, 2, 2], [700, 200, 50, 50]), 3, ("cat", "dog", "1"))}


def test_a_class_is_asked_for_by_its_name_or_its_number():
  for message, number in (("dog", 1), ("0", 0), ("1", 2), ("2", 2)):  # a name before a number
    request = CONDITIONS["label"](ANIMALS, request=message).request(np.arange(3), None)
    np.testing.assert_array_equal(request["label"], number)
  for message in ("cow", "3", "-1"):
    with pytest.raises(
      ConfigError, match=rf"request is {message}; the data's classes are 0 to 2 \(cat, dog, 1\)"
    ):
      CONDITIONS["label"](ANIMALS, request=message)


@pytest.mark.parametrize("count", [1, 7, 10, 64, 1000, 20_000])
def test_classes_are_asked_for_as_often_as_in_the_training_data(count):
  condition = CONDITIONS["label"](ANIMALS, shares="training")
  request = condition.request(np.arange(count), None)["label"]
  error = np.bincount(request, minlength=3) - count * np.asarray([0.7, 0.2, 0.1])
  assert np.abs(error).max() <= 1 + np.log2(count)
  np.testing.assert_array_equal(condition.request(np.arange(count)[3:5], None)["label"], request[3:5])


def test_texts_are_asked_for_in_turn_from_a_file_or_the_data(tmp_path):
  (tmp_path / "prompts.txt").write_text("a two\n\nthe  digit 3\n")
  for request in ("a two|the digit 3", str(tmp_path / "prompts.txt")):
    query = MAKE["text"](request=request).request(np.arange(5), None)["text"]
    assert [WORDS.text(tokens) for tokens in query] == ["a two", "the digit 3"] * 2 + ["a two"]
  (tmp_path / "none.txt").write_text("\n")
  for name, words in (("none.txt", "a file without texts"), ("missing.txt", "a file that cannot be read")):
    with pytest.raises(ConfigError, match=words):
      MAKE["text"](request=str(tmp_path / name))
  with pytest.raises(ConfigError, match="need rows of the data's 'text', and there are no data"):
    MAKE["text"]().request(np.arange(5), None)


def test_the_null_of_text_is_the_empty_one_and_order_matters():
  empty = jnp.asarray(WORDS([""] * 4))
  condition = MAKE["text"]()
  np.testing.assert_array_equal(condition.null(batch()["text"]), empty)
  for run in (READER, ""):
    condition = MAKE["text-run" if run else "text"]()
    read = condition.embed(Widths(4, 8, 6, rows=1.0))

    def message(texts, parts=condition, read=read):
      data = completed({"text": jnp.asarray(WORDS(texts))}, parts.encodings, {"runs/clip": READER.params})
      return parts.value(data, None), read

    (one, net), (other, _), (nothing, _) = (
      message(["a two above a seven"]),
      message(["a seven above a two"]),
      message([""]),
    )
    jax.tree.map(np.testing.assert_array_equal, condition.null(one), nothing)
    params = net.init(keys.seed(0), one)
    a, b = (net.apply(params, value) for value in (one, other))
    assert np.abs(a.tokens[0] - b.tokens[0]).max() > 1e-3
    np.testing.assert_array_equal(a.tokens[1], WORDS(["a two above a seven"]) >= 0)


def test_a_run_that_reads_other_tokens_is_refused():
  others = TOKENIZERS["words"](("something", "else"))
  run = READER._replace(can={**READER.can, "tokenizer": lambda params: others})
  with pytest.raises(
    ConfigError, match="reads the tokens of another tokenizer .*path = 'runs/clip/tokenizer_text"
  ):
    CONDITIONS["text"](FIELDS, run=run)


def test_encodings_at_the_edge_are_those_in_the_step():
  at_edge, in_step = (MAKE["text-run"].func(FIELDS, run=READER, edge=edge) for edge in (True, False))
  assert {*at_edge.fields} - {*in_step.fields} == {"text_encoding_tokens", "text_encoding_pooled"}
  data, frozen = {"text": batch()["text"]}, {"runs/clip": READER.params}
  kept = encoded(source(), at_edge.encodings, parallel.create()).read(np.arange(4))
  want = encode_text(READER.params, jnp.asarray(kept["text"]))
  np.testing.assert_allclose(kept["text_encoding_tokens"], want["tokens"], rtol=1e-6)
  fields = completed(data, in_step.encodings, frozen)
  again = completed(
    fields | {"text_encoding_tokens": fields["text_encoding_tokens"] + 1}, in_step.encodings, {}
  )
  np.testing.assert_array_equal(
    again["text_encoding_tokens"], fields["text_encoding_tokens"] + 1
  )  # what is there stays


def test_embeddings_are_asked_for_from_the_data():
  condition, data = MAKE["vector"](), source()
  request = requests({"vector": condition, "label": MAKE["label"]()}, np.arange(10), data)
  for name in ("embedding", "label", "text"):  # what the rows' pictures are of: metrics judge samples by it
    np.testing.assert_array_equal(request[name], data.arrays[name][np.arange(10) % 7])
  with pytest.raises(ConfigError, match="need rows of the data's field 'embedding', and there are no data"):
    condition.request(np.arange(10), None)


def test_a_class_that_is_named_is_told_beside_a_vector_of_rows():
  for names in (("label", "vector"), ("vector", "label")):
    tells = {"label": MAKE["label"](request="2"), "vector": MAKE["vector"]()}
    request = requests({name: tells[name] for name in names}, np.arange(10), source())
    np.testing.assert_array_equal(request["label"], 2)
    np.testing.assert_array_equal(request["embedding"], source().arrays["embedding"][np.arange(10) % 7])


@pytest.mark.parametrize(
  "name, options, words",
  [
    ("label", {"request": "10"}, "request is 10; the data's classes are 0 to 9"),
    ("label", {"request": "-1"}, "request is -1; the data's classes are 0 to 9"),
    (
      "label",
      {"field": "class"},
      "field is 'class', but the data's int32 fields are label, kind, words, several, text",
    ),
    ("label", {"field": "image"}, "field is 'image', but the data's int32 fields are"),
    ("label", {"field": "words"}, "field is 'words', which holds no classes"),
    ("label", {"field": "several"}, r"an example holds classes of shape \(2,\); a label is one class an example"),
    ("label", {"shares": "training"}, "shares is 'training', but how often a class comes is not known"),
    ("label", {"dropout": 1.5}, "dropout is 1.5"),
    ("text", {"field": "words"}, "field is 'words', which holds no text"),
    ("text", {"field": "image"}, "field is 'image', but the data's int32 fields are"),
    ("vector", {"field": "text"}, "field is 'text', but the data's float32 fields are embedding, map"),
    ("vector", {"field": "map"}, r"field is 'map' of shape \(3, 5\); it must be a vector"),
    ("vector", {"dropout": -0.1}, "dropout is -0.1"),
    ("vector", {"tokens": -1}, "tokens is -1"),
    ("frames", {"given": (3,)}, r"given is \(3,\), and the data are of shape"),
    ("frames", {"field": "image"}, "it needs videos of more frames"),
    ("moving", {"field": "several"}, "it must be one number"),
  ],
)
def test_what_cannot_be_is_refused_by_name(name, options, words):
  with pytest.raises(ConfigError, match=words):
    CONDITIONS[name](FIELDS, **options)


def test_samples_may_ask_for_another_class_than_the_run_was_begun_with():
  may_change = config.free(config.base())
  assert may_change("condition.label.request") and not may_change("condition.label.dropout")


def test_a_vector_is_of_a_run_s_pictures_in_training_and_of_a_prior_s_samples_at_sampling():
  encoder = Trained("runs/clip", {"encode": lambda params, x: x[:, :3, 0, 0] * params}, jnp.float32(0.1), "")
  calls = []

  def sample(params, index, source, prompts, again):
    calls.append(prompts)
    seen = np.stack([index, index, 0 * index + again], axis=1).astype(np.float32)
    return {"seen": seen}, {"index": index, "text": WORDS(["a two"] * len(index))}

  can = {"sample": sample, "shapes": lambda params: {"seen": (3,)}, "data": lambda params: FIELDS}
  prior = Trained("runs/prior", can, (), "")
  condition = CONDITIONS["vector"](
    FIELDS, "seen", run=encoder, scale=2.0, prior=prior, request="a two|a seven"
  )
  data = completed({"image": batch()["image"]}, condition.encodings, {"runs/clip": encoder.params})
  np.testing.assert_allclose(condition.value(data, None), 0.2 * data["image"][:, :3, 0, 0], rtol=1e-5)
  result = requests({"vector": condition, "text": MAKE["text"](request="the digit 3")}, np.arange(4, 6), None)
  np.testing.assert_array_equal(result["seen"], [[4, 4, 0], [5, 5, 0]])
  assert WORDS.text(result["text"][0]) == "a two" and calls == [["a two", "a seven"]]
  with pytest.raises(
    ConfigError, match=r"run is 'runs/prior', whose samples are seen \(4,\); here they must be seen"
  ):
    wide = prior._replace(can={**can, "shapes": lambda params: {"seen": (4,)}})
    CONDITIONS["vector"](FIELDS, "seen", run=encoder, prior=wide)


def test_of_several_samples_of_a_prior_the_one_nearest_to_its_text_is_taken():
  rng = np.random.default_rng(0)
  drawn = rng.standard_normal((3, 8, 5)).astype(np.float32)
  texts = WORDS(["a two", "a seven", "a two above a seven"])

  def sample(params, index, source, prompts, again):
    return {"seen": drawn[again, index]}, {"index": index, "text": texts[index % 3]}

  can = {"sample": sample, "shapes": lambda params: {"seen": (5,)}, "data": lambda params: FIELDS}
  prior = Trained("runs/prior", can, (), "")
  clip = READER._replace(can=READER.can | {"encode": lambda params, x: x[:, 0, :1, 0] * jnp.ones(5)})
  make = functools.partial(CONDITIONS["vector"], FIELDS, "seen", run=clip)
  index = np.asarray([1, 4, 6, 7])
  result = make(prior=prior, best=2).request(index, None)
  read = np.asarray(encode_text(READER.params, jnp.asarray(texts))["pooled"])[index % 3]
  product = np.einsum("knd,nd->kn", drawn[:2, index], read)
  want = np.where((product[0] >= product[1])[:, None], drawn[0, index], drawn[1, index])
  np.testing.assert_array_equal(result["seen"], want)
  assert {0, 1} == {int(p[1] > p[0]) for p in product.T}
  np.testing.assert_array_equal(make(prior=prior).request(index, None)["seen"], drawn[0, index])
  for options in ({}, {"run": encoder_without_text(), "prior": prior}):
    with pytest.raises(
      ConfigError, match="best is 2, which needs a prior that is told texts and a run that reads"
    ):
      make(**options, best=2)


def encoder_without_text():
  return READER._replace(can={"encode": lambda params, x: x[:, 0, :1, 0] * jnp.ones(5)})
