"""What the v2 API refuses, as values: etcd's numbers, its texts, and the HTTP status of each (etcd.md, 1.14)."""

KEY_NOT_FOUND = 100
TEST_FAILED = 101
NOT_FILE = 102
NOT_DIRECTORY = 104
NODE_EXISTS = 105
KEY_IS_PRESERVED = 106
ROOT_READ_ONLY = 107
DIRECTORY_NOT_EMPTY = 108
UNAUTHORIZED = 110
PREV_VALUE_REQUIRED = 201
TTL_NO_NUMBER = 202
INDEX_NO_NUMBER = 203
INVALID_FIELD = 209
INVALID_FORM = 210
REFRESH_VALUE = 211
REFRESH_TTL_REQUIRED = 212
RAFT_INTERNAL = 300
EVENT_INDEX_CLEARED = 401

MESSAGES = {
    KEY_NOT_FOUND: "Key not found",
    TEST_FAILED: "Compare failed",
    NOT_FILE: "Not a file",
    NOT_DIRECTORY: "Not a directory",
    NODE_EXISTS: "Key already exists",
    KEY_IS_PRESERVED: "The prefix of given key is a keyword in etcd",
    ROOT_READ_ONLY: "Root is read only",
    DIRECTORY_NOT_EMPTY: "Directory not empty",
    UNAUTHORIZED: "The request requires user authentication",
    PREV_VALUE_REQUIRED: "PrevValue is Required in POST form",
    TTL_NO_NUMBER: "The given TTL in POST form is not a number",
    INDEX_NO_NUMBER: "The given index in POST form is not a number",
    INVALID_FIELD: "Invalid field",
    INVALID_FORM: "Invalid POST form",
    REFRESH_VALUE: "Value provided on refresh",
    REFRESH_TTL_REQUIRED: "A TTL must be provided on refresh",
    RAFT_INTERNAL: "Raft Internal Error",
    EVENT_INDEX_CLEARED: "The event in requested index is outdated and cleared",
}
_STATUS = {
    KEY_NOT_FOUND: 404,
    NOT_FILE: 403,
    DIRECTORY_NOT_EMPTY: 403,
    UNAUTHORIZED: 401,
    TEST_FAILED: 412,
    NODE_EXISTS: 412,
    RAFT_INTERNAL: 500,
}


class V2Error(Exception):
    """A request that cannot be served. cause: mostly a path. index: of the store when it was refused, 0 before that."""

    def __init__(self, code: int, cause: str, index: int = 0) -> None:
        super().__init__(f"{MESSAGES[code]} ({cause})")
        self.code = code
        self.cause = cause
        self.index = index

    @property
    def http_status(self) -> int:
        return _STATUS.get(self.code, 400)
