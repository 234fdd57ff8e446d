"""docs/configuration.md: how the node is told its settings, and the sample of a config file that the node prints."""

from kvorum.config_file import LISTS, MISTAKEN, OURS, keys
from kvorum.config_sample import sample
from kvorum.flags import FLAGS

PAGE = """<!-- Made by `make generate` out of node-image/kvorum/flags.py. Do not edit. -->
# Configuration

Three ways, those of etcd 3.5, and never two of them for one setting:

- **Flags**, `--heartbeat-interval=50`; [all of them](flags.md), also `kvorum --help`.
- **Variables**, `ETCD_HEARTBEAT_INTERVAL=50`, for what no flag says. A variable that a flag shadows ends the start: one
  of the two is not what somebody meant. An unknown `ETCD_` variable is warned of.
- **A config file**, `--config-file FILE` or `ETCD_CONFIG_FILE=FILE`. Then the file is all that counts: other flags and
  variables are ignored, and a warning names them. (`--claim-etcd-version`, which no etcd has, goes with a file.)

## The file

YAML, and its keys are the flags' names. An etcd reads the same file to the same effect
(`tests/compat/test_config_file.py` gives both the same ones), so what follows is true of both:

- A value has the type of its setting. `name: 5` and `heartbeat-interval: "50"` end the start, with the place and what
  it must be. Durations are nanoseconds without a unit: `grpc-keepalive-min-time: 5000000000`.
- Several URLs, origins or host names are one text with commas. YAML lists are, and must be: {lists}.
- YAML 1.1: `y`, `on` and `no` are booleans, `010` is 8. A text that looks like one needs quotes: `proxy: 'off'`.
- A key without a value asks for the default. Case makes no difference. Of several documents the first counts.
- `auto-compaction-retention` needs `auto-compaction-mode` beside it: a file has no default for that.

Keys that are unknown are ignored; an etcd does so in silence, a node of ours names all of them in one warning, with
what may be meant. Two are found in many guides: {mistaken}.

## Keys that are not the flag's name

| Key | Flag | |
|---|---|---|
{renamed}
## The sample

`kvorum --print-config-sample > node.yaml` writes this. As it is, it changes nothing.

```yaml
{sample}```
"""


def page() -> str:
    rows = []
    for name, where in keys().items():
        if where != (name,) or name in OURS:
            note = "the key is ours: an etcd has the flag alone, and ignores it in a file" if name in OURS else ""
            note = note if name in FLAGS else "the flag is ours: an etcd has the key alone"
            rows.append(f"| `{'.'.join(where)}` | `--{name}` | {note} |\n")
    mistaken = " and ".join(f"`{key}` ({why})" for key, why in MISTAKEN.items())
    lists = sorted({f"`{where[-1]}`" for name, where in keys().items() if name in LISTS})
    return PAGE.format(lists=", ".join(lists), mistaken=mistaken, renamed="".join(rows), sample=sample())
