<?php
// New contacts carry the trunk that the call came through as a tag.

$trunk = $params['call_full']['channel']['trunk']['number'];
$params['tags'] = array('Call', $trunk !== '' ? $trunk : 'unknown trunk');

return array('state' => 'success', 'data' => $params);
