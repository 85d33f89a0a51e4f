# The message of the day.
class motd (
  String $text,
) {
  file { '/etc/motd':
    ensure  => file,
    mode    => '0644',
    content => epp('motd/motd.epp', { 'text' => $text }),
  }
}
