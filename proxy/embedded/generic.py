"""Fields that any command may carry."""

from __future__ import annotations

from typing import Final

from proxy.embedded.words import words

GENERIC: Final = words(
    "$db lsid txnNumber autocommit startTransaction $clusterTime $readPreference "
    "readConcern writeConcern maxTimeMS comment apiVersion apiStrict "
    "apiDeprecationErrors $audit $client $configServerState $oplogQueryData "
    "$queryOptions $replData help allowImplicitCollectionCreation shardVersion "
    "databaseVersion coordinator $configTime $topologyTime $tenant clientOperationKey "
    "maxTimeMSOpOnly mayBypassWriteBlocking startOrContinueTransaction tracking_info "
    "txnRetryCounter"
)
