"""Reads a training's event files by TensorBoard's own package and compares them with history.jsonl.
Of a training that was killed and resumed, what came after its checkpoints must be gone."""
import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = sys.argv[1]
history = [json.loads(line) for line in open(folder + '/history.jsonl')]
assert history


def load(run):
    everything = {'scalars': 0, 'histograms': 0, 'images': 0}
    events = EventAccumulator(folder + '/tensorboard/' + run, size_guidance=everything)
    return events.Reload()


def same(events, tag, key):
    """A scalar must have, at every step of the history that has a value, that value."""
    expected = {row['step']: key(row) for row in history if key(row) is not None}
    found = events.Scalars(tag) if tag in events.Tags()['scalars'] else []
    assert [e.step for e in found] == sorted(expected), (tag, found, expected)
    for e in found:
        assert math.isclose(e.value, expected[e.step], rel_tol=1e-6, abs_tol=1e-9), (tag, found, expected)
    return len(found)


training, validation = load('training'), load('validation')
scores = {'age': 'age_mae', 'gender': 'gender_accuracy', 'race': 'race_accuracy', 'person': 'person_accuracy'}
compared = 0
for name, events in ('training', training), ('validation', validation):
    compared += same(events, 'loss/total', lambda row: row[name]['total'])
    for head in 'age', 'gender', 'race', 'face', 'person':
        compared += same(events, 'loss/' + head, lambda row: row[name]['loss'][head])
    for head, tag in scores.items():
        compared += same(events, 'metric/' + tag, lambda row: row[name]['score'][head])
compared += same(training, 'learning_rate', lambda row: row['rate'])
assert compared >= 4 * len(history), compared

histograms = training.Tags()['histograms']
assert 'conv1.weight' in histograms, histograms
for tag in histograms:
    events = training.Histograms(tag)
    assert [e.step for e in events] == [row['step'] for row in history], (tag, events)
    for e in events:
        value = e.histogram_value
        assert sum(value.bucket) == value.num, tag
        assert value.bucket_limit[-1] >= value.max >= value.min, tag

assert training.Tags()['images'], 'no example crops'
for tag in training.Tags()['images']:
    for e in training.Images(tag):
        assert e.encoded_image_string.startswith(b'\x89PNG') and e.width == e.height > 0, tag
print('ok')
