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
    """A scalar must have, at every step of the history, the value that is there."""
    found = {e.step: e.value for e in events.Scalars(tag)}
    assert len(found) == len(events.Scalars(tag)), (tag, 'a step comes twice')
    expected = {row['step']: key(row) for row in history}
    assert found.keys() == expected.keys(), (tag, found, expected)
    for step, value in expected.items():
        assert math.isclose(found[step], value, rel_tol=1e-6, abs_tol=1e-9), (tag, step, found, expected)


training, validation = load('training'), load('validation')
for name, events in ('training', training), ('validation', validation):
    same(events, 'loss/total', lambda row: row[name]['total'])
    for head in 'age', 'gender', 'race', 'face':
        same(events, 'loss/' + head, lambda row: row[name]['loss'][head])
    same(events, 'metric/age_mae', lambda row: row[name]['score']['age'])
    same(events, 'metric/gender_accuracy', lambda row: row[name]['score']['gender'])
    same(events, 'metric/race_accuracy', lambda row: row[name]['score']['race'])
same(training, 'learning_rate', lambda row: row['rate'])

histograms = training.Tags()['histograms']
assert 'conv1.weight' in histograms and 'age.bias' in histograms, histograms
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
