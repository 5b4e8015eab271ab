"""A record -> its turns: its fields say which form it has."""

from collections.abc import Mapping

from onevision.data.forms.chats import read_chat, read_texts
from onevision.data.forms.pairs import PAIRS, read_caption
from onevision.data.forms.raw import RawRecord, field_error, is_empty
from onevision.data.forms.turns import Talk

# Where a record may hold its media; one of each pair is used.
MEDIA_FIELDS: Mapping[str, str] = {"image": "images", "video": "videos"}
# The medium of a record in a file of captions.
FILE_NAME = "file_name"
# Where other formats hold media. Such a record would be learned as if it showed nothing.
UNREAD_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls",
         "image_bytes", "img", "imgs", "img_path", "picture", "pictures", "photo"),
        "image",
    ),
    **dict.fromkeys(("video_path", "video_paths", "video_file", "video_url", "clip"), "video"),
}  # fmt: skip
# Fields that change what a record means, and why they are not learned.
REFUSED_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("chosen", "rejected", "rejected_response", "rejected_messages", "rejected_images"),
        "it is a pair of preferences; learn it with `onevision dpo`",
    ),
    "kto_tag": "KTO is not supported; leave it out to learn the answer as it is",
    **dict.fromkeys(("tools", "functions"), "tools are not learned; leave it out"),
    **dict.fromkeys(
        ("audio", "audios", "audio_path", "sound"), "the model has no sound; leave it out"
    ),
}
FORMS = (
    "conversations [{from, value}]; messages [{role, content}]; texts [{user, assistant}]; "
    "query + response; instruction + output; prompt + completion; question + answer; "
    "text or caption with an image"
)
# All fields that mean anything; of Parquet files, other columns are not read.
KNOWN_FIELDS = frozenset(
    {"id", "system", "history", "input", "conversations", "messages", "texts", "text", "caption"}
    | {FILE_NAME, *MEDIA_FIELDS, *MEDIA_FIELDS.values(), *UNREAD_FIELDS, *REFUSED_FIELDS}
    | {field for pair in PAIRS for field in pair}
)


def read_talk(record: RawRecord) -> Talk:
    """Returns a record's turns. Raises DataError, whose message names source, row and field."""
    fields = record.fields
    for name, problem in REFUSED_FIELDS.items():
        if not is_empty(fields.get(name)):
            raise field_error(record, name, problem)
    given = {name for name, value in fields.items() if value is not None}
    for name, other in (("conversations", "messages"), ("messages", "conversations")):
        if name in given:
            _check_same(record, name, other)
            return read_chat(record, other if is_empty(fields[name]) and other in given else name)
    if "texts" in given:
        return read_texts(record)
    for pair, read in PAIRS.items():
        if given.issuperset(pair):
            return read(record)
    if given & {"text", "caption"} and given & {FILE_NAME, *MEDIA_FIELDS, *MEDIA_FIELDS.values()}:
        return read_caption(record)
    raise _unknown_form(record)


def list_unused(record: RawRecord, talk: Talk) -> tuple[str, ...]:
    """Returns the fields and keys of a record that hold something and are not read."""
    read = talk.used | {"id", FILE_NAME, *MEDIA_FIELDS, *MEDIA_FIELDS.values()}
    fields = [k for k, value in record.fields.items() if k not in read and not is_empty(value)]
    return (*fields, *talk.unused)


def _check_same(record: RawRecord, first: str, second: str) -> None:
    """Raises DataError if both fields of turns are given and differ."""
    one, other = record.fields.get(first), record.fields.get(second)
    if not is_empty(one) and not is_empty(other) and one != other:
        raise field_error(
            record, second, f"the record also has {first!r}, with other content; keep one of them"
        )


def _unknown_form(record: RawRecord) -> Exception:
    keys = ", ".join(map(str, record.fields))
    if any(isinstance(value, Mapping) and FILE_NAME in value for value in record.fields.values()):
        return field_error(
            record,
            next(iter(record.fields)),
            "it is LLaMA-Factory's dataset_info.json; give a file that it names, with columns "
            "renamed to conversations, messages, instruction, output, images, videos or system",
        )
    lists = [name for name, value in record.fields.items() if isinstance(value, list) and value]
    hint = f"; if the records are in {lists[0]!r}, give that list alone" if len(lists) == 1 else ""
    return field_error(
        record,
        "conversations",
        f"it is missing, and {keys[:120] or 'nothing'} is none of the known forms: {FORMS}{hint}",
    )
