<?php
// New leads carry the trunk that the call came through as a tag.

$trunk = $params['call_full']['channel']['trunk']['number'];
$params['_embedded']['tags'] = array(
    array('name' => 'Call'),
    array('name' => $trunk !== '' ? $trunk : 'unknown trunk'),
);

return array('state' => 'success', 'data' => $params);
