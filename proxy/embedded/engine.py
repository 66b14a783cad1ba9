"""The query engine: mongomock behind a typed, narrow interface.

The only module that knows mongomock. Documents go in and come out as plain dicts decoded by
``bson``; whatever mongomock raises comes out as a :class:`CommandError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import mongomock
import pymongo.errors
from bson import ObjectId

from proxy.embedded.failures import failure
from proxy.embedded.printing import printed
from proxy.errors import CommandError

Document = dict[str, Any]
Namespace = tuple[str, str]


def _has_operators(change: object) -> bool:
    return isinstance(change, Mapping) and next(iter(change), "").startswith("$")


def _keep_id(key: object, change: object) -> None:
    """Refuse a change of ``_id``, which mongomock notices only when it is too late.

    Raises:
        CommandError: 66.
    """
    if not isinstance(change, Mapping):
        return
    changes = {"$set": change} if not _has_operators(change) else change
    for operator, fields in changes.items():
        if operator == "$setOnInsert" or not isinstance(fields, Mapping) or "_id" not in fields:
            continue
        if operator != "$set" or fields["_id"] != key:
            raise failure(
                66,
                "Performing an update on the path '_id' would modify the immutable field '_id'",
            )


class Updated(NamedTuple):
    """What one update statement did: matched, modified, and the ``_id`` it upserted."""

    matched: int
    modified: int
    upserted: tuple[Any, ...] = ()


class DuplicateKeyFailure(CommandError):
    """11000 with the index' pattern and the values that collide."""

    pattern: Document
    value: list[Any]


#: Types of ``_id`` that are compared by value and by nothing else.
_PLAIN: Final = (str, int, float, bytes, ObjectId, datetime)


class _Translated:
    """Turns what mongomock raises into server errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, NotImplementedError):
            raise failure(238, f"the embedded engine lacks this: {error}") from error
        if isinstance(error, pymongo.errors.OperationFailure):
            raise failure(error.code or 2, str(error)) from error
        if isinstance(error, pymongo.errors.PyMongoError):
            raise failure(2, str(error)) from error
        # mongomock checks few of its arguments: what trips it is nearly always a bad query.
        if isinstance(
            error, TypeError | ValueError | LookupError | AttributeError | AssertionError
        ):
            raise failure(2, f"{type(error).__name__}: {error}") from error


class _AllOrNothing:
    """Puts documents back where an update failed: mongomock changes them in place."""

    def __init__(self, engine: Engine, ns: Namespace, before: list[Document]) -> None:
        self._engine, self._ns, self._before = engine, ns, before

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if error is not None:
            for document in self._before:
                self._engine.put(self._ns, document["_id"], document)


class Engine:
    """Databases of collections of documents with indexes, all in memory."""

    def __init__(self) -> None:
        self._client: Any = mongomock.MongoClient()
        self._single: Any = mongomock.MongoClient().engine.single

    def _collection(self, ns: Namespace) -> Any:  # noqa: ANN401 - mongomock has no types
        return self._client[ns[0]][ns[1]]

    def _searched(self, ns: Namespace, query: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """The collection, or one of only the document that the query names by its ``_id``.

        mongomock looks at every document, whatever the query.
        """
        collection = self._collection(ns)
        key = query.get("_id")
        if isinstance(key, Mapping) and len(key) == 1:
            key = key.get("$eq")
        if not isinstance(key, _PLAIN):
            return collection
        self._single.drop()
        if key in collection._store:
            self._single.insert_one(collection._store[key])
        return self._single

    def databases(self) -> list[str]:
        """Names, sorted, of the databases that hold a collection."""
        return sorted(self._client.list_database_names())

    def collections(self, database: str) -> list[str]:
        """Names of the collections, oldest first."""
        return list(self._client[database].list_collection_names())

    def exists(self, ns: Namespace) -> bool:
        """Whether there is such a collection."""
        return ns[1] in self.collections(ns[0])

    def create(self, ns: Namespace) -> None:
        """Make an empty collection."""
        with _Translated():
            self._client[ns[0]].create_collection(ns[1])

    def drop(self, ns: Namespace) -> None:
        """Remove a collection with its documents and indexes."""
        self._client[ns[0]].drop_collection(ns[1])

    def rename(self, ns: Namespace, target: Namespace) -> None:
        """Move a collection with its indexes; ``target`` must not exist."""
        with _Translated():
            for document in self.find(ns):
                self.insert(target, document)
            for name, index in self.indexes(ns).items():
                self.create_index(target, name, list(index["key"].items()), index)
            self.drop(ns)

    def find(
        self,
        ns: Namespace,
        query: Mapping[str, Any] | None = None,
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        """The documents that match, in order; 0 is no limit."""
        with _Translated():
            query = dict(query or {})
            cursor = self._searched(ns, query).find(query, projection or None)
            if sort:
                cursor = cursor.sort(list(sort.items()))
            return list(cursor.skip(skip).limit(limit))

    def ids(
        self,
        ns: Namespace,
        query: Mapping[str, Any],
        *,
        sort: Mapping[str, Any] | None = None,
        limit: int = 0,
    ) -> list[Any]:
        """The ``_id`` of the documents that match."""
        found = self.find(ns, query, projection={"_id": 1}, sort=sort, limit=limit)
        return [document["_id"] for document in found]

    def get(self, ns: Namespace, key: object) -> Document | None:
        """The document with this ``_id``."""
        for document in self.find(ns, {"_id": {"$eq": key}}):
            return document
        return None

    def count(self, ns: Namespace) -> int:
        """How many documents there are."""
        return int(self._collection(ns).estimated_document_count())

    def insert(self, ns: Namespace, document: Document) -> None:
        """Store one document that has an ``_id``.

        Raises:
            DuplicateKeyFailure: a unique index holds the same key.
        """
        with _Translated():
            try:
                self._collection(ns).insert_one(document)
            except pymongo.errors.DuplicateKeyError as error:
                raise self._duplicate(ns, document) from error

    def update(
        self,
        ns: Namespace,
        query: Mapping[str, Any],
        change: object,
        *,
        multi: bool = False,
        upsert: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
    ) -> Updated:
        """Apply operators or, where ``change`` has none, replace the first match."""
        collection = self._collection(ns)
        before = self.find(ns, query, limit=0 if multi else 1)
        for document in before:
            _keep_id(document["_id"], change)
        with _Translated(), _AllOrNothing(self, ns, before):
            try:
                if not isinstance(change, list) and not _has_operators(change):
                    result = collection.replace_one(dict(query), change, upsert=upsert)
                elif multi:
                    result = collection.update_many(
                        dict(query), change, upsert=upsert, array_filters=array_filters
                    )
                else:
                    result = collection.update_one(
                        dict(query), change, upsert=upsert, array_filters=array_filters
                    )
            except pymongo.errors.DuplicateKeyError as error:
                raise self._duplicate(ns, None) from error
            raw = result.raw_result
            upserted = raw.get("upserted")
            if upserted is None:
                return Updated(result.matched_count, result.modified_count)
            return Updated(1, 0, (upserted,))

    def delete(self, ns: Namespace, key: object) -> int:
        """Remove the document with this ``_id``; how many there were."""
        with _Translated():
            return int(self._collection(ns).delete_one({"_id": {"$eq": key}}).deleted_count)

    def put(self, ns: Namespace, key: object, document: Document | None) -> None:
        """Make the document with this ``_id`` be ``document``; None removes it."""
        with _Translated():
            if document is None:
                self.delete(ns, key)
            elif self.get(ns, key) is None:
                self.insert(ns, document)
            else:
                # mongomock would take an operator here for a change of the _id.
                self._collection(ns).replace_one({"_id": key}, document)

    def distinct(self, ns: Namespace, key: str, query: Mapping[str, Any]) -> list[Any]:
        """The different values of a field among the documents that match."""
        with _Translated():
            return list(self._collection(ns).distinct(key, dict(query)))

    def aggregate(self, ns: Namespace, pipeline: list[Document]) -> list[Document]:
        """What the pipeline makes of the collection."""
        with _Translated():
            return list(self._collection(ns).aggregate(pipeline))

    def create_index(
        self, ns: Namespace, name: str, key: list[tuple[str, Any]], options: Mapping[str, Any]
    ) -> None:
        """``key`` is pairs of field and direction; of ``options`` what the engine knows is kept."""
        kept = {
            option: options[option]
            for option in ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")
            if option in options
        }
        with _Translated():
            self._collection(ns).create_index(key, name=name, **kept)

    def drop_index(self, ns: Namespace, name: str) -> None:
        """Remove an index by name."""
        with _Translated():
            self._collection(ns).drop_index(name)

    def indexes(self, ns: Namespace) -> dict[str, Document]:
        """The secondary indexes by name: ``key`` as a document, and their options."""
        found: dict[str, Document] = {}
        for name, index in self._collection(ns).index_information().items():
            if name != "_id_":
                options = {
                    option: index[option] for option in index if option not in ("key", "v", "ns")
                }
                found[name] = {"key": dict(index["key"]), **options}
        return found

    def copy(self, source: Engine, ns: Namespace) -> None:
        """Take over ``source``'s collection, indexes included."""
        if source.exists(ns):
            self.create(ns)
            collection = self._collection(ns)
            for document in source.find(ns):
                collection.insert_one(document)
            for name, index in source.indexes(ns).items():
                self.create_index(ns, name, list(index["key"].items()), index)

    def _duplicate(self, ns: Namespace, document: Document | None) -> DuplicateKeyFailure:
        name, pattern, value = "_id_", {"_id": 1}, [document["_id"]] if document else [None]
        if document is not None and self.get(ns, document["_id"]) is None:
            for index, details in self.indexes(ns).items():
                if details.get("unique"):
                    query = {field: document.get(field) for field in details["key"]}
                    if self.ids(ns, query, limit=1):
                        name, pattern, value = index, details["key"], list(query.values())
        shown = ", ".join(f"{field}: {printed(v)}" for field, v in zip(pattern, value, strict=True))
        error = DuplicateKeyFailure(
            11000,
            "DuplicateKey",
            f"E11000 duplicate key error collection: {ns[0]}.{ns[1]} index: {name} "
            f"dup key: {{ {shown} }}",
        )
        error.pattern, error.value = pattern, value
        return error
